"""How much an example of each label counts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.recipe.sections import ClassWeights


def class_weights(kind: ClassWeights, label_counts: Sequence[int]) -> Tensor:
    """(K,): how much an example of each label counts; the mean over the training examples is 1."""
    counts = torch.tensor(label_counts, dtype=torch.float32)
    if kind == "none":
        return torch.ones_like(counts)
    return counts.sum() / (len(counts) * counts.clamp(min=1.0))
