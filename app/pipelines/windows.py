"""Means over windows of step vectors, at a memory that does not grow with the sound."""

import numpy as np
from numpy.typing import NDArray


class WindowMeans:
    """Window k is [k * hop, k * hop + length) seconds; its vector is the mean of the steps that begin in it.

    The first window that reaches the end is the last one, and ends there.
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
        while self._last_step(len(self.means)) < self.first_held + len(self.held):
            self._close()
        return len(self.means) - before

    def finish(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """(starts (W,), ends (W,), means (W, D)), in seconds from the first step; push() must have been called."""
        assert self.held is not None
        num_steps = self.first_held + len(self.held)
        if self._first_step(len(self.means)) < num_steps:
            self._close()
        starts = np.arange(len(self.means), dtype=np.float64) * self.hop_seconds
        ends = np.minimum(starts + self.window_seconds, num_steps * self.step_seconds)
        return starts, ends, np.stack(self.means)

    def _first_step(self, window: int) -> int:
        return round(window * self.hop_seconds / self.step_seconds)

    def _last_step(self, window: int) -> int:
        """Exclusive; a window shorter than a step has one nevertheless."""
        last = round((window * self.hop_seconds + self.window_seconds) / self.step_seconds)
        return max(last, self._first_step(window) + 1)

    def _close(self) -> None:
        """Takes the mean of the next window and lets go of the steps before the one after it."""
        assert self.held is not None
        window = len(self.means)
        first, last = self._first_step(window) - self.first_held, self._last_step(window) - self.first_held
        self.means.append(self.held[first:last].mean(axis=0, dtype=np.float64).astype(np.float32))
        unneeded = min(len(self.held), self._first_step(window + 1) - self.first_held)
        self.held = self.held[unneeded:]
        self.first_held += unneeded
