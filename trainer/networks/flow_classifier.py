"""The classifier of how things move: it sees optical flow and no picture."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.frame_encoder import SequenceEmbedding
from trainer.networks.lengths import valid_steps
from trainer.networks.luma import luma
from trainer.networks.motion_boundaries import MotionBoundaries
from trainer.networks.recurrent import Cell, Recurrent, RunningMean
from trainer.recipe.flow import Network


class FlowClassifier(nn.Module):
    """Tells which of `num_labels` things goes on by how everything moves: for data too small to learn looks from.

    `so_far` is the mean of the logits of all moments. The state (B,S), float32, is the recurrence's state ++ the sums
    of the moments' logits ++ the number of steps ++ the state of MotionBoundaries.
    """

    max_pixel: Final[float] = 255.0

    mean: Tensor
    deviation: Tensor

    def __init__(self, num_labels: int, width: int, height: int, cell: Cell, network: Network) -> None:
        super().__init__()
        self.width, self.height = width, height
        self.boundaries = MotionBoundaries(height, width)
        self.register_buffer("mean", torch.zeros(self.boundaries.size))
        self.register_buffer("deviation", torch.ones(self.boundaries.size))
        size = network.size
        self.embedding = SequenceEmbedding(self.boundaries.size, size, network.dropout)
        self.recurrent = Recurrent(cell, size, size) if network.recurrence == "cell" else RunningMean(size)
        self.now = nn.Sequential(nn.Dropout(network.dropout), nn.Linear(2 * size, num_labels))
        self.state_sizes = [self.recurrent.state_size, num_labels, 1, self.boundaries.state_size]

    def standardise(self, steps: Tensor) -> None:
        """Takes mean and deviation from measured steps (N,size)."""
        self.mean.copy_(steps.mean(dim=0))
        self.deviation.copy_(steps.std(dim=0).clamp(min=1e-3))

    def light(self, frames: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8 -> luma (B,T,height,width) in [0,1], resized where the size differs."""
        pictures = luma(frames.permute(0, 1, 4, 2, 3).to(torch.float32) / self.max_pixel)
        if pictures.shape[2] != self.height or pictures.shape[3] != self.width:
            pictures = F.interpolate(pictures, (self.height, self.width), mode="bilinear", antialias=True)
        return pictures

    def measure(self, frames: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """frames (B,T,H,W,3) uint8, lengths (B,), state (B,S) -> steps (B,T,·), the state of MotionBoundaries."""
        _, _, num_seen, boundaries = torch.split(state, self.state_sizes, dim=1)
        steps, boundaries = self.boundaries(self.light(frames), lengths, boundaries, num_seen.squeeze(1))
        return steps, boundaries

    def unroll(self, steps: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Measured steps (B,T,·), lengths (B,), state (B,S) -> now, so_far (B,T,K), state.

        This is all that is learnt. The state of MotionBoundaries is not changed.
        """
        recurrent, sums, num_seen, boundaries = torch.split(state, self.state_sizes, dim=1)
        embedded = self.embedding((steps - self.mean) / self.deviation)
        hidden, recurrent = self.recurrent(embedded, lengths, recurrent)
        now = self.now(torch.cat((embedded, hidden), dim=2))
        places = torch.arange(1, now.shape[1] + 1, device=now.device)
        valid = valid_steps(now.shape[1], lengths).unsqueeze(2)
        totals = sums.unsqueeze(1) + torch.where(valid, now, 0.0).cumsum(dim=1)  # (B,T,K)
        counts = num_seen + torch.minimum(places.unsqueeze(0), lengths.unsqueeze(1))  # (B,T)
        so_far = totals / counts.clamp(min=1.0).unsqueeze(2)
        return now, so_far, torch.cat((recurrent, totals[:, -1], counts[:, -1:], boundaries), dim=1)

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:  # noqa: N803 - the contract's axis letters
        """-> (B,S) before the first frame. Its size is the model's own, whatever H and W are."""
        return torch.zeros(B, sum(self.state_sizes))

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """chunk (B,T,H,W,3) uint8, lengths (B,), state (B,S) -> ((now, so_far) (B,T,K), state after each last step)."""
        steps, boundaries = self.measure(chunk, lengths, state)
        now, so_far, state = self.unroll(steps, lengths, state)
        kept = state.shape[1] - boundaries.shape[1]
        return (now, so_far), torch.cat((state[:, :kept], boundaries), dim=1)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> logits (B,K) of all of each row's steps."""
        state = self.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
        so_far = self.step(frames, lengths, state)[0][1]
        last = (lengths - 1).clamp(min=0)
        return so_far[torch.arange(len(last), device=last.device), last]
