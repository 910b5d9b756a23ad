"""The frames up to a moment: what a forecaster observes."""

from pathlib import Path

import numpy as np
import pytest

from app.errors import InvalidMedia
from app.media.decode import read_media
from app.media.request import FrameChunk, FrameSpec, MediaEvent, MediaRequest, MediaSummary
from tests.media_maker import moving_frames, write_video

SIZE = (48, 32)


def read(path: Path, request: MediaRequest) -> list[MediaEvent]:
    with path.open("rb") as file:
        return list(read_media(file, request))


def last_frames(path: Path, spec: FrameSpec, **part: float) -> tuple[list[int], np.ndarray, MediaSummary]:
    """Timeline indices of the frames, found among all of them, and their moments."""
    events = read(path, MediaRequest(frames=(spec, FrameSpec(*SIZE, rate=10.0)), **part))
    frames, times, everything = [], [], []
    for event in events:
        if isinstance(event, FrameChunk) and event.spec == 0:
            frames.extend(event.frames)
            times.extend(event.times)
        elif isinstance(event, FrameChunk):
            everything.extend(event.frames)
    summary = events[-1]
    assert isinstance(summary, MediaSummary)
    indices = [next(k for k, other in enumerate(everything) if np.array_equal(frame, other)) for frame in frames]
    return indices, np.array(times), summary


@pytest.fixture(scope="module", params=[{"g": "60"}, {"g": "6"}, {"bf": "0"}], ids=["one group", "groups", "no B"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 different frames, 10 a second."""
    path = tmp_path_factory.mktemp("media") / "v.mp4"
    return write_video(path, moving_frames(40, *SIZE), 10, options=request.param)


@pytest.mark.parametrize(
    ("rate", "at", "expected"),
    [
        (10.0, None, [36, 37, 38, 39]),
        (5.0, None, [33, 35, 37, 39]),
        (20.0, None, [37, 38, 38, 39]),
        (10.0, 2.0, [17, 18, 19, 20]),
        (10.0, 2.05, [17, 18, 19, 20]),
        (10.0, 4.0, [37, 38, 39, 39]),
        (10.0, 0.1, [0, 0, 0, 1]),
        (10.0, 0.0, [0, 0, 0, 0]),
    ],
)
def test_the_last_is_on_display_then(video: Path, rate: float, at: float | None, expected: list[int]) -> None:
    spec = FrameSpec(*SIZE, clip_length=4, rate=rate, last_seconds=at)
    indices, times, _ = last_frames(video, spec)
    assert indices == expected
    last = 3.9 if at is None else at
    assert times == pytest.approx(np.maximum(last - np.array([3, 2, 1, 0]) / rate, 0))


def test_by_default_it_is_the_last_of_the_part(video: Path) -> None:
    spec = FrameSpec(*SIZE, clip_length=4, rate=10.0)
    with video.open("rb") as file:
        events = list(read_media(file, MediaRequest(frames=(spec,), start_seconds=1.0, end_seconds=2.0)))
    (chunk,) = (event for event in events if isinstance(event, FrameChunk))
    assert chunk.times == pytest.approx([1.6, 1.7, 1.8, 1.9])
    assert events[-1].duration_seconds == pytest.approx(1.0)


def test_only_what_it_takes_is_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", moving_frames(60, *SIZE), 10, options={"g": "10", "bf": "0"})
    spec = FrameSpec(*SIZE, clip_length=3, rate=10.0, last_seconds=2.2)
    summary = read(path, MediaRequest(frames=(spec,)))[-1]
    assert isinstance(summary, MediaSummary)
    assert summary.frames_decoded <= 10  # of the group of 20..29
    assert summary.frames_skipped >= 50


def test_after_the_end_there_is_nothing(video: Path) -> None:
    spec = FrameSpec(*SIZE, clip_length=4, rate=10.0, last_seconds=4.1)
    with pytest.raises(InvalidMedia, match=r"nothing at 4\.1 s: the video lasts 4\.000 s"):
        read(video, MediaRequest(frames=(spec,)))
