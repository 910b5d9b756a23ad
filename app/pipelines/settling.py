"""When enough of a video or sound has been judged: the scores for everything so far hardly move any more."""

from collections import deque
from math import ceil

import numpy as np
from numpy.typing import NDArray

SETTLED_SECONDS = 2.0
"""How long the scores must have stood still."""
SETTLED_RANGE = 0.05
"""How far a score may have moved in that time. Its height says less: some models are never sure of anything."""


class Settling:
    """Watches the scores of everything so far."""

    def __init__(self, rate: float) -> None:
        """`rate`: judgements a second."""
        self._num_steps = ceil(SETTLED_SECONDS * rate) + 1
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=self._num_steps - 1)  # (K,) each
        self.is_settled = False

    def push(self, scores: NDArray[np.float64], *, compete: bool) -> None:
        """The scores (T, K) of the next judgements, which add up to one where labels `compete`."""
        rows = [*self._recent, *scores]
        self._recent.extend(scores)
        if not self.is_settled and len(rows) >= self._num_steps:
            self.is_settled = self._stand_still(np.stack(rows), compete=compete)

    def _stand_still(self, scores: NDArray[np.float64], *, compete: bool) -> bool:
        """Whether the labels stayed the same and no score (N, K) moved much over some `_num_steps` judgements in a row.

        All stretches at once: 1 to 5 us a judgement on the event loop, instead of 13 to 15 one by one.
        """
        held = scores.argmax(axis=1)[:, None] if compete else (scores > 0.5).astype(np.int64)
        changed, moved = (_ranges(values, self._num_steps).max(axis=1) for values in (held, scores))
        return bool(((changed == 0) & (moved <= SETTLED_RANGE)).any())


def _ranges(values: NDArray[np.float64] | NDArray[np.int64], length: int) -> NDArray[np.floating | np.integer]:
    """(N - length + 1, K): the largest less the smallest of every `length` consecutive rows of `values` (N, K)."""
    largest, smallest, width = values, values, 1
    while width < length:
        step = min(width, length - width)
        largest, smallest = np.maximum(largest[:-step], largest[step:]), np.minimum(smallest[:-step], smallest[step:])
        width += step
    return largest - smallest
