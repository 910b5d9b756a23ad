"""Answers that come some steps late, brought together with the moments that they are about."""

import numpy as np
from numpy.typing import NDArray


class LateAnswers:
    """Pairs the answers of one step after the other with the moments `delay_steps` before.

    The first answers are about nothing: no moment lies so far back. With a delay of 0 it hands everything through.
    """

    def __init__(self, delay_steps: int, waiting: NDArray[np.float64] | None = None) -> None:
        """`waiting`: what was waiting where it goes on from."""
        self.delay_steps = delay_steps
        self.waiting = np.empty(0) if waiting is None else waiting
        """The last moments (up to `delay_steps`,), in seconds: yet to be answered."""

    def pair(
        self, times: NDArray[np.float64], answers: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
        """times (T,), answers (T, ...) of the steps there -> moments (N,), answers about them (N, ...); N <= T."""
        known = np.concatenate((self.waiting, times))
        num_answered = max(0, len(known) - self.delay_steps)
        self.waiting = known[num_answered:]
        return known[:num_answered], answers[len(answers) - num_answered :]

    def rest(self, answers: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
        """answers (delay_steps, ...) of steps after the end -> the moments that were waiting, and theirs."""
        moments, self.waiting = self.waiting, np.empty(0)
        return moments, answers[len(answers) - len(moments) :]
