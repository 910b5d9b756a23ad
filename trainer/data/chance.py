"""Random numbers distributed as nature distributes them."""

import numpy as np
from numpy.typing import NDArray


def log_uniform(bounds: tuple[float, float], count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """(count,): as many between 1 and 2 as between 2 and 4."""
    low, high = np.log(bounds)
    return np.exp(generator.uniform(float(low), float(high), count))
