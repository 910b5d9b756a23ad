"""Scores from logits: of one moment, and of many."""

import numpy as np
import torch
from numpy.typing import NDArray


def to_scores(logits: NDArray[np.floating], kind: str) -> NDArray[np.float64]:
    """Scores in [0, 1] from logits (..., K): softmax over K, or the sigmoid of each."""
    wide = torch.from_numpy(logits).double()
    scores = torch.sigmoid(wide) if kind == "sigmoid" else torch.softmax(wide, dim=-1)
    return scores.numpy()


class ScoresOfMoments:
    """The scores of many moments together.

    For labels that compete, the scores of their mean logits. For others the mean score: the share of the video, as far
    as the model knows, in which the label holds.
    """

    def __init__(self, kind: str, mean: NDArray[np.float64], num_moments: int = 0) -> None:
        """`mean` (K,): that of the moments so far, where there were any."""
        self.kind = kind
        self.num_moments = num_moments
        self._sums = mean * num_moments

    @property
    def mean(self) -> NDArray[np.float64]:
        """(K,) of logits or scores, as they are averaged; 0 before the first moment."""
        return self._sums / max(self.num_moments, 1)

    @property
    def scores(self) -> NDArray[np.float64]:
        """(K,) in [0, 1], of all moments so far."""
        return self._scores_of(self.mean)

    def push(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """logits (T, K) of the next moments -> (T, K) in [0, 1], of all up to each."""
        averaged = to_scores(logits, "sigmoid") if self.kind == "sigmoid" else logits.astype(np.float64)
        sums = self._sums + averaged.cumsum(axis=0)
        counts = np.arange(self.num_moments + 1, self.num_moments + len(logits) + 1)
        if len(logits):
            self._sums = sums[-1]
            self.num_moments += len(logits)
        return self._scores_of(sums / counts[:, None])

    def _scores_of(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        return means if self.kind == "sigmoid" else to_scores(means.astype(np.float32), self.kind)
