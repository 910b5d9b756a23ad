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
        self.sums: NDArray[np.float64] | None = None
        """(1 + T, D) of all steps before each that a window still needs, and of all that there are: a mean is one
        subtraction, however long the window is."""
        self.first_held = 0  # the step that the first of them is of
        self.num_means = 0
        self.means: list[NDArray[np.float32]] = []  # (W, D) each

    def push(self, steps: NDArray[np.float32]) -> int:
        """Takes the next steps (T, D); gives back how many windows they complete."""
        before = np.zeros((1, steps.shape[1])) if self.sums is None else self.sums
        self.sums = np.concatenate([before, before[-1] + steps.cumsum(axis=0, dtype=np.float64)])
        # A window that ends with what is here may be the last one, and shorter than it looks: finish() makes it.
        windows = self._windows_before(self._num_steps * self.step_seconds)
        self._close(windows[self._steps_before(self._ends(windows)) < self._num_steps])
        return len(self.means[-1])

    def finish(self, heard_seconds: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """(starts (W,), ends (W,), means (W, D)), in seconds from the first step; push() must have been called.

        `heard_seconds`: where the sound ends, in the last step or with it.
        """
        end = heard_seconds - STEP_TOLERANCE * self.step_seconds
        windows = self._windows_before(end)
        # Those that begin before the end, but for what follows the first that reaches it.
        is_wanted = (windows == 0) | ((windows * self.hop_seconds < end) & (self._ends(windows - 1) < end))
        self._close(windows[is_wanted])
        means = np.concatenate(self.means)
        starts = np.arange(len(means), dtype=np.float64) * self.hop_seconds
        return starts, np.minimum(starts + self.window_seconds, heard_seconds), means

    @property
    def _num_steps(self) -> int:
        """That were pushed."""
        assert self.sums is not None
        return self.first_held + len(self.sums) - 1

    def _windows_before(self, seconds: float) -> NDArray[np.int64]:
        """Numbers of the windows without a mean that begin before then, or a little later."""
        return np.arange(self.num_means, max(self.num_means, math.ceil(seconds / self.hop_seconds) + 1))

    def _ends(self, windows: NDArray[np.int64]) -> NDArray[np.floating]:
        return windows * self.hop_seconds + self.window_seconds

    def _steps_before(self, seconds: NDArray[np.floating]) -> NDArray[np.int64]:
        """How many steps begin before each of these times."""
        steps: NDArray[np.int64] = np.ceil(seconds / self.step_seconds - STEP_TOLERANCE).astype(np.int64)
        return steps

    def _close(self, windows: NDArray[np.int64]) -> None:
        """Takes the means of the next `windows`, and lets go of the steps before the one after them."""
        assert self.sums is not None
        next_window = self.num_means + len(windows)
        firsts, lasts = self._steps(np.append(windows, next_window))
        sums = self.sums[lasts[:-1] - self.first_held] - self.sums[firsts[:-1] - self.first_held]
        self.means.append((sums / (lasts - firsts)[:-1, None]).astype(np.float32))
        self.num_means = next_window
        self.sums = self.sums[firsts[-1] - self.first_held :]
        self.first_held = int(firsts[-1])

    def _steps(self, windows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[first, last) of those that were pushed, of each window."""
        lasts = np.minimum(self._steps_before(self._ends(windows)), self._num_steps)
        return np.minimum(self._steps_before(windows * self.hop_seconds), lasts - 1), lasts
