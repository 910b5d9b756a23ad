"""When enough of a video or sound has been judged: more of it would hardly change the answer."""

import numpy as np
from numpy.typing import NDArray

SETTLED_SCORE = 0.95
"""Of the label that leads, for everything so far; of labels that do not compete, each at least this far from open."""
SETTLED_SECONDS = 2.0
"""For which it must have been so without a break, and the same labels all the time."""


class Settling:
    """Watches the scores of everything so far."""

    def __init__(self, rate: float) -> None:
        """`rate`: judgements a second."""
        self._num_needed = round(SETTLED_SECONDS * rate)
        self._num_steady = 0
        self._held: tuple[int, ...] = ()  # the labels that are held to be right
        self.is_settled = False

    def push(self, scores: NDArray[np.float64], *, compete: bool) -> None:
        """The scores (T, K) of the next judgements, which add up to one where labels `compete`."""
        for row in scores:
            held = (int(row.argmax()),) if compete else tuple(int(label) for label in np.flatnonzero(row > 0.5))
            certainty = row.max() if compete else np.maximum(row, 1 - row).min()
            if certainty < SETTLED_SCORE:
                self._num_steady = 0
            elif held == self._held:
                self._num_steady += 1
            else:
                self._num_steady = 1
            self._held = held
            self.is_settled = self.is_settled or self._num_steady >= self._num_needed
