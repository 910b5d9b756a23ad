"""Files whose clock is set anew on the way, and such in which it is not."""

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from threading import Thread
from typing import Any

import av
import numpy as np
import pytest

from app.media.decode import read_media
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaRequest,
    MediaSummary,
    WaveformChunk,
    WaveformSpec,
)
from app.media.socket_file import SocketFile
from tests.media.test_exact import check, check_one_pass
from tests.media_maker import sine, write_video

HOUR = 3600
RATE = 25
SAMPLE_RATE = 16_000
COPY = {"container_options": {"mpegts_copyts": "1"}}  # else the clock of every file starts at 1.4 s


def grey(path: Path, first: int, last: int, start_seconds: float = 0.0, **options: Any) -> bytes:
    """Two seconds from one grey to another."""
    greys = np.linspace(first, last, 2 * RATE).astype(int)
    frames = np.stack([np.full((64, 96, 3), value, np.uint8) for value in greys])
    pts = [round(start_seconds * RATE) + number for number in range(len(frames))]
    return write_video(path, frames, RATE, pts=pts, **options).read_bytes()


def joined(folder: Path, name: str) -> Path:
    """Two seconds and then two more, of another clock."""
    suffix, codec = (".mpg", "mpeg2video") if name == "mpeg" else (".ts", "libx264")
    hours = {"forward": (0, 6), "back": (6, 0), "wrap": (26, 0)}.get(name, (0, 0))
    options: dict[str, Any] = {"codec": codec} | ({} if suffix == ".mpg" else COPY)
    path = folder / f"joined{suffix}"
    parts = [(20, 100, hours[0] * HOUR), (120, 220, hours[1] * HOUR)]
    path.write_bytes(b"".join(grey(folder / f"part{suffix}", *part, **options) for part in parts))
    return path


def read(path: Path, request: MediaRequest) -> list[MediaEvent]:
    with path.open("rb") as file:
        return list(read_media(file, request))


def read_arriving(path: Path, request: MediaRequest) -> Iterator[MediaEvent]:
    source, sink = os.pipe()

    def send() -> None:
        with open(sink, "wb") as file:  # noqa: PTH123  it is a descriptor
            file.write(path.read_bytes())

    sender = Thread(target=send)
    sender.start()
    yield from read_media(SocketFile(source), request)
    sender.join()
    os.close(source)


def shown(events: list[MediaEvent]) -> np.ndarray:
    """(T, H, W, 3)"""
    return np.concatenate([event.frames for event in events if isinstance(event, FrameChunk)])


def heard(events: list[MediaEvent]) -> np.ndarray:
    """(N,)"""
    return np.concatenate([event.waveform for event in events if isinstance(event, WaveformChunk)])


@pytest.mark.parametrize("name", ["mpeg", "ts", "forward", "back", "wrap"])
def test_recordings_that_were_joined_follow_one_another(tmp_path: Path, name: str) -> None:
    path = joined(tmp_path, name)
    request = MediaRequest(frames=(FrameSpec(48, 32, rate=8.0, chunk_length=1),))
    info, *events = read(path, request)
    assert isinstance(info, MediaInfo)
    assert isinstance(events[-1], MediaSummary)
    assert (info.duration_seconds, info.frame_rate, events[-1].duration_seconds) == (4.0, RATE, 4.0)
    frames = shown(events)
    greys = frames.mean((1, 2, 3))
    assert len(greys) == 32
    assert (np.diff(greys) > 0).all()  # from the first grey to the last
    np.testing.assert_allclose(greys[[0, 15, 16, 31]], [18, 94, 118, 211], atol=4)
    check(path)
    check_one_pass(path, tmp_path)
    live = list(read_arriving(path, MediaRequest(frames=request.frames, source="arriving")))
    np.testing.assert_array_equal(shown(live), frames)


def test_a_part_of_what_was_joined(tmp_path: Path) -> None:
    request = MediaRequest(frames=(FrameSpec(48, 32, clip_length=2),), start_seconds=2.5)
    frames = shown(read(joined(tmp_path, "ts"), request))
    np.testing.assert_allclose(frames.mean((1, 2, 3)), [145, 218], atol=4)


def test_a_picture_may_stand_still_elsewhere(tmp_path: Path) -> None:
    """As of a screen that is shared: no frame for twenty seconds."""
    frames = np.stack([np.full((64, 96, 3), value, np.uint8) for value in (20, 100, 220)])
    path = write_video(tmp_path / "v.mkv", frames, RATE, pts=[0, RATE, 21 * RATE])
    request = MediaRequest(frames=(FrameSpec(48, 32, rate=1.0, chunk_length=1),))
    info, *events = read(path, request)
    assert isinstance(info, MediaInfo)
    assert info.duration_seconds == pytest.approx(21.04, abs=0.1)
    assert len(shown(events)) == 22
    live = list(read_arriving(path, MediaRequest(frames=request.frames, source="arriving")))
    np.testing.assert_array_equal(shown(live), shown(events))


def write_sounds(path: Path, starts: tuple[float, ...], **options: Any) -> Path:
    """A second of sound at each of the `starts`."""
    with av.open(str(path), "w", **options) as output:
        stream = output.add_stream("mp2", rate=SAMPLE_RATE, layout="mono")
        for start in starts:
            samples = (sine(1.0, SAMPLE_RATE)[None] * 32767).astype("i2")
            frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = round(start * SAMPLE_RATE)
            output.mux(stream.encode(frame))  # type: ignore[arg-type]
        output.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("suffix", "starts", "seconds"),
    [(".mkv", (0.0, 30.0), 31.0), (".ts", (0.0, 30.0), 2.0), (".ts", (0.0, 30.0, 32.0), 4.0)],
)
def test_a_long_gap_is_silence_where_clocks_are_not_set_anew(
    tmp_path: Path, suffix: str, starts: tuple[float, ...], seconds: float
) -> None:
    """A short one is silence also after the clock was set anew."""
    path = write_sounds(tmp_path / f"s{suffix}", starts)
    waveform = heard(read(path, MediaRequest(waveforms=(WaveformSpec(SAMPLE_RATE, SAMPLE_RATE),))))
    assert len(waveform) / SAMPLE_RATE == pytest.approx(seconds, abs=0.2)
    assert np.abs(waveform[-SAMPLE_RATE // 2 :]).max() > 0.4


def test_sound_that_is_sent_begins_when_it_comes(tmp_path: Path) -> None:
    """Whatever the sender's clock says: it has not lasted for ten hours."""
    path = write_sounds(tmp_path / "s.ts", (10.0 * HOUR,), options={"mpegts_copyts": "1"})
    spec = WaveformSpec(SAMPLE_RATE, SAMPLE_RATE // 4)
    events = list(read_arriving(path, MediaRequest(waveforms=(spec,), source="arriving")))
    [first, *_] = [event for event in events if isinstance(event, WaveformChunk)]
    assert first.start_seconds == 0.0
    assert len(heard(events)) / SAMPLE_RATE == pytest.approx(1.0, abs=0.2)
