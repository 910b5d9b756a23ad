"""A classifier of colours that answers late, and one that does not, for the rest the same; their places in a store."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.tiny_models import COLOURS, write_other

SIZE, RATE = 16, 4.0


class LateClassifier(nn.Module):
    """Tells which colours a frame shows, `delay` steps later; all that it has to remember is what it has not said yet.

    The state is the frames' mean colours that are waiting ++ the sum of the answers ++ the number of steps.
    """

    def __init__(self, delay: int) -> None:
        super().__init__()
        self.delay = delay
        self.sharpness = nn.Parameter(torch.tensor(20.0))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        (_, so_far), _ = self.step(frames, lengths, self.initial_state(frames.shape[0], 0, 0))
        return so_far[torch.arange(len(lengths)), (lengths - 1).clamp(min=0)]

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return torch.zeros(B, 3 * self.delay + 4)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        B, T = chunk.shape[0], chunk.shape[1]
        colours = chunk.to(torch.float32).mean(dim=(2, 3)) / 255.0  # (B, T, 3)
        known = torch.cat((state[:, : 3 * self.delay].reshape(B, self.delay, 3), colours), dim=1)
        now = (known[:, :T] - 0.3) * self.sharpness
        valid = (torch.arange(T) < lengths.unsqueeze(1)).unsqueeze(2).float()
        sums = state[:, 3 * self.delay :].unsqueeze(1) + torch.cat((now * valid, valid), dim=2).cumsum(dim=1)
        so_far = sums[:, :, :3] / sums[:, :, 3:].clamp(min=1.0)
        waiting = known[torch.arange(B).unsqueeze(1), lengths.unsqueeze(1) + torch.arange(self.delay)]
        return (now, so_far), torch.cat((waiting.flatten(1), sums[:, -1]), dim=1)


def write_late(store: Path, delay: int, *, general: bool = False) -> None:
    """`tiny-late-<delay>`; blue need not last."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, SIZE, SIZE, 3), dtype=np.uint8)
    write_other(
        store,
        f"tiny-late-{delay}",
        LateClassifier(delay),
        frames,
        (5, 3),
        3 * delay + 4,
        input={"media": "video", "width": SIZE, "height": SIZE, "fit": "stretch", "sampling": "rate", "rate": RATE},
        output={
            "labels": COLOURS,
            "scores": "sigmoid",
            "delay_steps": delay,
            "shortest_seconds": {"blue": 0.0},
            "general": general,
        },
    )
