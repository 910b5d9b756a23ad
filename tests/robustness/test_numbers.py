"""Models that answer what is no number, once they see something that their golden input did not show."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.media_maker import write_video
from tests.server import RunningServer, running_server
from tests.tiny_models import TinyClassifier, write_version


class FailsOnWhite(nn.Module):
    """Answers `wrong` of bright frames: of `forward`, or of `step` alone."""

    def __init__(self, wrong: float, forwards: bool) -> None:
        super().__init__()
        self.inner = TinyClassifier()
        self.wrong = wrong
        self.forwards = forwards

    def _spoil(self, answer: Tensor, frames: Tensor) -> Tensor:
        return torch.where(frames.float().mean() > 200, torch.full_like(answer, self.wrong), answer)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        answer = self.inner(frames, lengths)
        return self._spoil(answer, frames) if self.forwards else answer

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return self.inner.initial_state(B, H, W)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (now, so_far), state = self.inner.step(chunk, lengths, state)
        if not self.forwards:
            now = self._spoil(now, chunk)
        return (now, so_far), state


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    store = tmp_path_factory.mktemp("failing")
    for name, wrong in (("nan", float("nan")), ("inf", float("inf")), ("minus-inf", float("-inf"))):
        write_version(store, f"forward-{name}", module=FailsOnWhite(wrong, forwards=True))
        write_version(store, f"step-{name}", module=FailsOnWhite(wrong, forwards=False))
        write_version(store, f"rate-{name}", module=FailsOnWhite(wrong, forwards=False), sampling="rate")
    with running_server(store) as server:
        yield server


@pytest.mark.parametrize("wrong", ["nan", "inf", "minus-inf"])
@pytest.mark.parametrize("query", ["model=forward-{}", "model=step-{}&timeline=true", "model=rate-{}"])
def test_no_answer_with_them_leaves(failing: RunningServer, tmp_path: Path, query: str, wrong: str) -> None:
    black = write_video(tmp_path / "black.mp4", np.zeros((10, 48, 64, 3), np.uint8), 5).read_bytes()
    white = write_video(tmp_path / "white.mp4", np.full((10, 48, 64, 3), 250, np.uint8), 5).read_bytes()
    route = f"/classify?{query.format(wrong)}"
    with failing.client() as client:
        assert client.post(route, content=black).status_code == 200
        answer = client.post(route, content=white)
        assert (answer.status_code, answer.json()["title"]) == (500, "Internal error")
        assert client.post(route, content=black).status_code == 200
