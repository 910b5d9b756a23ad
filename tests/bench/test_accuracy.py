from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from bench.accuracy import answers, read_predictions
from bench.service import Service
from tests.conftest import RATE, coloured_frames
from tests.media_maker import write_video
from tests.server import RunningServer
from tests.tiny_models import COLOURS
from trainer.data.listing import Video
from trainer.metrics import write_predictions


@dataclass
class Judged:
    """What the trainer keeps of a video."""

    path: str
    label: int


@pytest.fixture
def videos(tmp_path: Path) -> list[Video]:
    """Two parts of one file, and another file of the same name."""
    for folder, colours in (("a", ("red", "green")), ("b", ("blue",))):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "1.mp4", coloured_frames(*colours), RATE)
    both, other = tmp_path / "a/1.mp4", tmp_path / "b/1.mp4"
    return [Video(both, "red", "a", "test", 0, 2), Video(both, "green", "a", "test", 2, 4), Video(other, "blue", "b")]


def test_parts_and_namesakes_are_judged_each(server: RunningServer, client: httpx.Client, videos: list[Video]) -> None:
    found = answers(Service(server.process.pid, client), "tiny", videos)

    assert [label for label, _ in found] == [video.label for video in videos]


def test_predictions_are_those_of_the_same_part(tmp_path: Path, videos: list[Video]) -> None:
    judged = [Judged(str(video.path), COLOURS.index(video.label)) for video in videos]
    scores = np.array([[0.75, 0.25, 0], [0.25, 0.5, 0.25], [0, 0.125, 0.875]], np.float32)
    written = tmp_path / "predictions.csv"
    write_predictions(written, judged, scores, COLOURS)

    assert read_predictions(written, videos) == [("red", 0.75), ("green", 0.5), ("blue", 0.875)]
    assert read_predictions(written, videos[2:]) == [("blue", 0.875)]
    with pytest.raises(ValueError, match="1 to compare, 2 in"):
        read_predictions(written, videos[1:])
