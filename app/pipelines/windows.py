"""Means over windows of step vectors, at a memory that does not grow with the sound."""

import math

import numpy as np
from numpy.typing import NDArray

STEP_TOLERANCE = 1e-6
"""Of a step: nearer than this two times are one, for sums of floats miss by less, and samples are farther apart."""


class WindowMeans:
    """Window k is [k * hop, k * hop + length) seconds; its vector is the mean of the steps that begin in it.

    Where none does, since it is shorter than a step, its vector is that of the step it lies in. All windows begin
    before the end of what is heard. The first one that reaches the end is the last, and ends there.
    """

    def __init__(self, step_seconds: float, window_seconds: float, hop_seconds: float) -> None:
        self.step_seconds = step_seconds
        self.window_seconds = window_seconds
        self.hop_seconds = hop_seconds
        self.held: NDArray[np.float32] | None = None  # steps from `first_held` on that a window still needs
        self.first_held = 0
        self.means: list[NDArray[np.float32]] = []

    def push(self, steps: NDArray[np.float32]) -> int:
        """Takes the next steps (T, D); gives back how many windows they complete."""
        self.held = steps if self.held is None else np.concatenate([self.held, steps])
        before = len(self.means)
        # A window that ends with what is here may be the last one, and shorter than it looks: finish() makes it.
        while self._steps_before(self._end(len(self.means))) < self._num_steps:
            self._close()
        return len(self.means) - before

    def finish(self, heard_seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """(starts (W,), ends (W,), means (W, D)), in seconds from the first step; push() must have been called.

        `heard_seconds`: where the sound ends, in the last step or with it.
        """
        end = heard_seconds - STEP_TOLERANCE * self.step_seconds
        while not self.means or (self._end(len(self.means) - 1) < end and len(self.means) * self.hop_seconds < end):
            self._close()
        starts = np.arange(len(self.means), dtype=np.float64) * self.hop_seconds
        return starts, np.minimum(starts + self.window_seconds, heard_seconds), np.stack(self.means)

    @property
    def _num_steps(self) -> int:
        """That were pushed."""
        assert self.held is not None
        return self.first_held + len(self.held)

    def _end(self, window: int) -> float:
        return window * self.hop_seconds + self.window_seconds

    def _steps_before(self, seconds: float) -> int:
        """How many steps begin before then."""
        return math.ceil(seconds / self.step_seconds - STEP_TOLERANCE)

    def _steps(self, window: int) -> tuple[int, int]:
        """[first, last) of those that were pushed."""
        last = min(self._steps_before(self._end(window)), self._num_steps)
        return min(self._steps_before(window * self.hop_seconds), last - 1), last

    def _close(self) -> None:
        """Takes the mean of the next window and lets go of the steps before the one after it."""
        assert self.held is not None
        window = len(self.means)
        first, last = (step - self.first_held for step in self._steps(window))
        self.means.append(self.held[first:last].mean(axis=0, dtype=np.float64).astype(np.float32))
        unneeded = self._steps(window + 1)[0] - self.first_held
        self.held = self.held[unneeded:]
        self.first_held += unneeded
