"""Which steps of a padded batch are valid, and how to reverse them."""

import torch
from torch import Tensor


def valid_steps(num_steps: int, lengths: Tensor) -> Tensor:
    """(B,T) bool: which of `num_steps` steps are within lengths (B,)."""
    return torch.arange(num_steps, device=lengths.device) < lengths.unsqueeze(1)


def reversed_steps(x: Tensor, lengths: Tensor) -> Tensor:
    """x (B,T,D), lengths (B,) -> (B,T,D): the valid steps of each row in reverse; the others stay where they are."""
    steps = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths.unsqueeze(1) - 1 - steps  # (B,T)
    order = torch.where(mirrored >= 0, mirrored, steps)
    return x.gather(1, order.unsqueeze(2).expand(-1, -1, x.shape[2]))


def divide_up(lengths: Tensor, divisor: int) -> Tensor:
    """Lengths in units of `divisor`, rounded up."""
    return torch.div(lengths + (divisor - 1), divisor, rounding_mode="floor")
