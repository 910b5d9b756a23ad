"""What an example of each label counts for."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.recipe.sections import ClassWeights


def class_weights(kind: ClassWeights, label_counts: Sequence[int]) -> Tensor:
    """(K,): what an example of each label counts for, 1 on average over the training examples."""
    counts = torch.tensor(label_counts, dtype=torch.float32)
    if kind == "none":
        return torch.ones_like(counts)
    return counts.sum() / (len(counts) * counts.clamp(min=1.0))
