"""When enough of a video or sound has been judged: the scores for everything so far hardly move any more."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

SETTLED_SECONDS = 2.0
"""For which the scores must have stood still."""
SETTLED_RANGE = 0.05
"""By which a score may have moved in that time. How high it is says less: some models are never sure of anything."""


class Settling:
    """Watches the scores of everything so far."""

    def __init__(self, rate: float) -> None:
        """`rate`: judgements a second."""
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=round(SETTLED_SECONDS * rate) + 1)
        self.is_settled = False

    def push(self, scores: NDArray[np.float64], *, compete: bool) -> None:
        """The scores (T, K) of the next judgements, which add up to one where labels `compete`."""
        for row in scores:
            self._recent.append(row)
            self.is_settled = self.is_settled or self._stand_still(compete=compete)

    def _stand_still(self, *, compete: bool) -> bool:
        """Whether the same labels have been held to be right all the time, and no score has moved much."""
        if len(self._recent) < (self._recent.maxlen or 0):
            return False
        recent = np.stack(self._recent)
        held = recent.argmax(axis=1)[:, None] if compete else recent > 0.5
        return bool((held == held[0]).all() and np.ptp(recent, axis=0).max() <= SETTLED_RANGE)
