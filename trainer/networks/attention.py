"""Attention over all of the past, in the memory of one step."""

from typing import Final

import torch
from torch import Tensor, nn


class RunningAttention(nn.Module):
    """Softmax-weighted mean of all steps so far, by learned queries, kept as a running sum.

    For each head, the state (B, num_heads * (head_size + 2)) holds the weighted sum of the values, the sum of the
    weights, and the largest score, which is subtracted before exp (Milakov & Gimelshein 2018, arXiv 1805.02867).
    """

    least_score: Final[float] = -1e9
    """Start of the running maximum. Its exp is 0 in float32, and unlike minus infinity it makes no NaN."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        if size % num_heads:
            raise ValueError(f"{num_heads} heads do not divide a size of {size}")
        self.size = size
        self.num_heads = num_heads
        self.head_size = size // num_heads
        self.state_size = num_heads * (self.head_size + 2)
        # The last layer has no bias: softmax cancels it, and its gradient would be rounding noise.
        self.score = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, num_heads, bias=False))

    def initial_state(self, batch_size: int) -> Tensor:
        """-> (B,S): nothing seen."""
        state = torch.zeros(batch_size, self.num_heads, self.head_size + 2)
        state[:, :, -1] = self.least_score
        return state.flatten(1)

    def forward(self, x: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,T,size), lengths (B,), state (B,S) -> contexts (B,T,size), state (B,S)."""
        batch_size, num_steps = x.shape[0], x.shape[1]
        scores = self.score(x)  # (B,T,heads)
        values = x.reshape(batch_size, num_steps, self.num_heads, self.head_size)
        kept = state.reshape(batch_size, self.num_heads, self.head_size + 2)
        total, weight, largest = kept[:, :, :-2], kept[:, :, -2:-1], kept[:, :, -1:]
        contexts: list[Tensor] = []
        for t in range(num_steps):
            score = scores[:, t].unsqueeze(2)  # (B,heads,1)
            top = torch.maximum(largest, score)
            old, new = torch.exp(largest - top), torch.exp(score - top)
            valid = (t < lengths).reshape(batch_size, 1, 1)
            total = torch.where(valid, total * old + values[:, t] * new, total)
            weight = torch.where(valid, weight * old + new, weight)
            largest = torch.where(valid, top, largest)
            contexts.append((total / weight.clamp(min=1e-9)).flatten(1))
        return torch.stack(contexts, dim=1), torch.cat((total, weight, largest), dim=2).flatten(1)
