"""Sound of our own making, so that none of anyone's data is handed on with a model."""

import numpy as np
from numpy.typing import NDArray

from trainer.networks.log_mel import SAMPLE_RATE

SEED = 0


def draw_sound(num_samples: int) -> NDArray[np.float32]:
    """(2, num_samples) float32 at 16 kHz: a rising and a falling voice, ten harmonics that come and go, in noise."""
    generator = np.random.default_rng(SEED)
    seconds = np.arange(num_samples) / SAMPLE_RATE
    rows = []
    for start, end in ((110.0, 190.0), (260.0, 180.0)):
        phase = 2 * np.pi * (start * seconds + (end - start) * seconds**2 / (2 * seconds[-1]))
        voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 11))
        loudness = 0.05 + 0.1 * np.sin(2 * np.pi * 3 * seconds) ** 2
        rows.append(loudness * voice + 0.002 * generator.standard_normal(num_samples))
    return np.array(rows, np.float32)
