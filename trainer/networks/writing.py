"""What a writing recurrence looks at: scores of steps, and words for moments, which point at steps."""

import torch
from torch import Tensor, nn


class AdditiveScore(nn.Module):
    """How much each step matters to a hidden state: Bahdanau et al. 2015, arXiv 1409.0473, appendix A.1.2."""

    def __init__(self, hidden_size: int, memory_size: int, size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, size)
        self.key = nn.Linear(memory_size, size, bias=False)
        self.weigh = nn.Linear(size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """memory (N,T,D) -> (N,T,size), the same for all hidden states."""
        found: Tensor = self.key(memory)
        return found

    def forward(self, hidden: Tensor, keys: Tensor) -> Tensor:
        """hidden (N,H), keys (N,T,size) -> scores (N,T)."""
        scores: Tensor = self.weigh(torch.tanh(self.query(hidden).unsqueeze(1) + keys))[..., 0]
        return scores

    def all_pairs(self, hidden: Tensor, memory: Tensor) -> Tensor:
        """hidden (B,L,H), memory (B,T,D) -> scores (B,L,T)."""
        pairs = self.query(hidden).unsqueeze(2) + self.key(memory).unsqueeze(1)
        scores: Tensor = self.weigh(torch.tanh(pairs))[..., 0]
        return scores


class StepClock(nn.Module):
    """The words for moments: tenths of a second, then whole seconds. A word has the share of the steps it is for."""

    def __init__(self, rate: float, max_seconds: int) -> None:
        """`rate`: steps per second. With `max_seconds` 0 there are no such words."""
        super().__init__()
        self.rate = rate
        self.num_tenths = 10 * max_seconds + 1 if max_seconds else 0
        self.num_wholes = max_seconds + 1 if max_seconds else 0
        self.num_words = self.num_tenths + self.num_wholes

    def forward(self, tenths: Tensor, wholes: Tensor) -> Tensor:
        """Scores of each step (N,T), for either kind -> logits of the words (N,num_words)."""
        if self.num_words == 0:
            return tenths[:, :0]
        seconds = torch.arange(tenths.shape[1], device=tenths.device) / self.rate
        return torch.cat(
            (self._shared(tenths, seconds * 10.0, self.num_tenths), self._shared(wholes, seconds, self.num_wholes)),
            dim=1,
        )

    def _shared(self, scores: Tensor, places: Tensor, num_words: int) -> Tensor:
        """scores (N,T), places (T,) -> logits (N,num_words): log-sum-exp over the steps nearest to each."""
        nearest = torch.floor(places + 0.5).long().clamp(max=num_words - 1)
        largest = scores.amax(dim=1, keepdim=True).detach()
        sums = torch.zeros(scores.shape[0], num_words, device=scores.device)
        sums = sums.index_add(1, nearest, torch.exp(scores - largest))
        return torch.log(sums + 1e-9) + largest
