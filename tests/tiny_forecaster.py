"""A forecaster small enough for every test, and right about videos that change evenly."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.tiny_models import write_other

RATE = 10.0
OBSERVED = 4
MAX_HORIZON = 12
LONGEST_SIDE = 32


class TinyForecaster(nn.Module):
    """Goes on as from the frame before the last to the last, pixel by pixel; the first frame is taken to stand still.

    The state is (last frame, the frame before it, number of frames so far).
    """

    def __init__(self) -> None:
        super().__init__()
        self.speed = nn.Parameter(torch.ones(1))

    def forward(self, frames: Tensor, lengths: Tensor, horizon: int) -> Tensor:
        B, _, H, W, _ = frames.shape
        _, state = self.step(frames, lengths, self.initial_state(B, H, W))
        return self.decode(state, horizon, H, W)

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return torch.zeros(B, 2 * H * W * 3 + 1)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        _, T, H, W, _ = chunk.shape
        forecasts: list[Tensor] = []
        for time in range(T):
            state = self._after(chunk[:, time], time < lengths, state)
            forecasts.append(self.decode(state, 1, H, W)[:, 0])
        return torch.stack(forecasts, dim=1), state

    @torch.jit.export
    def decode(self, state: Tensor, horizon: int, H: int, W: int) -> Tensor:
        last, before, _ = self._split(state)
        ahead = torch.arange(1, horizon + 1).reshape(1, -1, 1)
        frames = last.unsqueeze(1) + self.speed * ahead * (last - before).unsqueeze(1)
        return frames.clamp(0.0, 1.0).reshape(state.shape[0], horizon, H, W, 3)

    def _after(self, frames: Tensor, is_valid: Tensor, state: Tensor) -> Tensor:
        """The state after `frames` (B, H, W, 3), where they are valid."""
        frame = frames.reshape(frames.shape[0], -1).float() / 255.0
        last, _, count = self._split(state)
        before = torch.where(count > 0, last, frame)
        return torch.where(is_valid.unsqueeze(1), torch.cat([frame, before, count + 1], dim=1), state)

    def _split(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = (state.shape[1] - 1) // 2
        return state[:, :size], state[:, size:-1], state[:, -1:]


def write_forecaster(
    store: Path, name: str = "tiny-forecast", module: nn.Module | None = None, version: str = "1"
) -> Path:
    """A complete, valid version of a TinyForecaster, or of `module`, for pictures of any size; its folder."""
    frames = np.random.default_rng(0).integers(0, 256, (2, OBSERVED, 6, 8, 3), dtype=np.uint8)
    return write_other(
        store,
        name,
        module or TinyForecaster(),
        frames,
        (OBSERVED, 3),
        2 * LONGEST_SIDE * LONGEST_SIDE * 3 + 1,
        version=version,
        task="predict",
        summary="Goes on as before.",
        input={
            "media": "video",
            "width": "any",
            "height": "any",
            "longest_side": LONGEST_SIDE,
            "fit": "keep",
            "sampling": "rate",
            "clip_length": OBSERVED,
            "rate": RATE,
        },
        output={"max_horizon": MAX_HORIZON},
    )
