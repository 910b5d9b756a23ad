"""Files that are decoded while somebody still writes to them."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidMedia
from app.media.decode import read_media
from app.media.descriptors import GrowingFile
from app.media.kinds import index_comes_last
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
from tests.media.growing import Writer, read_growing
from tests.media_maker import moving_frames, sine, write_sound, write_video

RATED = FrameSpec(48, 32, rate=8.0, chunk_length=4)
SPREAD = FrameSpec(40, 40, clip_length=5)
SOUND = WaveformSpec(8000, 800)

VIDEOS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ts": ("v.ts", "libx264", {}),
    "mkv": ("v.mkv", "libx264", {}),
    "webm": ("v.webm", "libvpx", {}),
    "avi": ("v.avi", "mpeg4", {}),
    "flv": ("v.flv", "flv", {}),
    "faststart": ("v.mp4", "libx264", {"container_options": {"movflags": "faststart"}}),
    "fragmented": ("v.mp4", "libx264", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
}
WITHOUT_PLAN = ("flv",)
"""No packet of this codec says whether another frame is predicted from it."""


def read_file(path: Path, request: MediaRequest) -> list[MediaEvent]:
    with path.open("rb") as file:
        return list(read_media(file, request))


def check_same(found: list[MediaEvent], expected: list[MediaEvent], request: MediaRequest) -> None:
    assert isinstance(found[0], MediaInfo)
    for number in range(len(request.frames)):
        mine, theirs = (
            [event for event in events if isinstance(event, FrameChunk) and event.spec == number]
            for events in (found, expected)
        )
        np.testing.assert_array_equal(
            np.concatenate([chunk.frames for chunk in mine]), np.concatenate([chunk.frames for chunk in theirs])
        )
        np.testing.assert_array_equal(
            np.concatenate([chunk.times for chunk in mine]), np.concatenate([chunk.times for chunk in theirs])
        )
    infos = [[event for event in events if isinstance(event, MediaInfo)][-1] for events in (found, expected)]
    assert infos[0] == infos[1]
    for event in (found[-1], expected[-1]):
        assert isinstance(event, MediaSummary)
    assert found[-1].duration_seconds == expected[-1].duration_seconds


def check_same_sound(found: list[MediaEvent], expected: list[MediaEvent]) -> None:
    mine, theirs = ([event for event in events if isinstance(event, WaveformChunk)] for events in (found, expected))
    assert [chunk.start_seconds for chunk in mine] == [chunk.start_seconds for chunk in theirs]
    np.testing.assert_array_equal(
        np.concatenate([chunk.waveform for chunk in mine]), np.concatenate([chunk.waveform for chunk in theirs])
    )
    infos = [[event for event in events if isinstance(event, MediaInfo)][-1] for events in (found, expected)]
    assert infos[0] == infos[1]


@pytest.mark.parametrize("specs", [(RATED,), (SPREAD, RATED), (RATED, FrameSpec(24, 24, rate=30.0))])
@pytest.mark.parametrize("name", VIDEOS)
def test_frames_come_before_the_end_and_are_those_of_the_file(tmp_path: Path, name: str, specs: tuple) -> None:
    file_name, codec, more = VIDEOS[name]
    quick = {"cpu-used": "8"} if codec == "libvpx" else {}
    video = write_video(tmp_path / file_name, moving_frames(101), 25, codec, options={"g": "25", **quick}, **more)
    request = MediaRequest(frames=specs, is_prompt=True)
    found = list(read_growing(tmp_path / "growing", video.read_bytes(), request))
    check_same(found, read_file(video, request), request)
    assert isinstance(found[-1], MediaSummary)
    assert found[-1].while_uploading == (name not in WITHOUT_PLAN)


def test_a_plain_mp4_waits_for_its_index(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", moving_frames(60), 25)
    request = MediaRequest(frames=(RATED,))
    found = list(read_growing(tmp_path / "growing", video.read_bytes(), request))
    check_same(found, read_file(video, request), request)
    assert isinstance(found[-1], MediaSummary)
    assert not found[-1].while_uploading


@pytest.mark.parametrize("at", [0.3, 0.7])
def test_what_is_damaged_on_the_way_goes_on_as_in_the_file(tmp_path: Path, at: float) -> None:
    video = write_video(tmp_path / "v.ts", moving_frames(150), 25, options={"g": "25"})
    data = bytearray(video.read_bytes())
    damaged = int(len(data) * at)
    data[damaged : damaged + 600] = bytes(600)
    video.write_bytes(data)
    request = MediaRequest(frames=(SPREAD, RATED), is_prompt=True)
    check_same(list(read_growing(tmp_path / "growing", bytes(data), request)), read_file(video, request), request)


@pytest.mark.parametrize(
    ("name", "codec"), [("s.wav", "pcm_s16le"), ("s.ogg", "libopus"), ("s.mka", "libopus"), ("s.flac", "flac")]
)
@pytest.mark.parametrize("at_once", [False, True])
def test_sound_is_that_of_the_file(tmp_path: Path, name: str, codec: str, at_once: bool) -> None:
    sound = write_sound(tmp_path / name, sine(20.0, 48000), 48000, codec)
    request = MediaRequest(waveforms=(SOUND,))
    found = list(read_growing(tmp_path / "growing", sound.read_bytes(), request, at_once=at_once))
    check_same_sound(found, read_file(sound, request))
    assert isinstance(found[-1], MediaSummary)
    assert found[-1].while_uploading


@pytest.mark.parametrize("first", [0, 30])
@pytest.mark.parametrize("name", VIDEOS)
def test_sound_of_a_video_counts_from_its_first_picture(tmp_path: Path, name: str, first: int) -> None:
    """Which, with `first`, comes a second after the sound has begun."""
    file_name, codec, more = VIDEOS[name]
    sound_codec = {"webm": "libopus", "flv": "aac"}.get(name, "mp2" if name == "avi" else "aac")
    video = write_video(
        tmp_path / file_name,
        moving_frames(101),
        30,
        codec,
        options={"g": "25"},
        pts=[first + number for number in range(101)],
        waveform=sine(5.0, 48_000),
        sample_rate=48_000,
        sound_codec=sound_codec,
        **more,
    )
    request = MediaRequest(waveforms=(SOUND,))
    found = list(read_growing(tmp_path / "growing", video.read_bytes(), request))
    check_same_sound(found, read_file(video, request))
    assert isinstance(found[-1], MediaSummary)
    assert found[-1].while_uploading


def test_an_mp3_waits_for_its_end(tmp_path: Path) -> None:
    """What the encoder put after the last sample is cut off of a complete file alone."""
    sound = write_sound(tmp_path / "s.mp3", sine(5.03, 44_100), 44_100, "libmp3lame")
    request = MediaRequest(waveforms=(SOUND,))
    found = list(read_growing(tmp_path / "growing", sound.read_bytes(), request))
    check_same_sound(found, read_file(sound, request))


def test_frames_and_sound_at_once_wait(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mkv", moving_frames(50), 25, waveform=sine(2.0, 16_000))
    request = MediaRequest(frames=(RATED,), waveforms=(SOUND,))
    found = list(read_growing(tmp_path / "growing", video.read_bytes(), request))
    check_same_sound(found, read_file(video, request))
    check_same(found, read_file(video, request), request)
    assert isinstance(found[-1], MediaSummary)
    assert not found[-1].while_uploading


def test_what_is_no_video_is_refused_at_the_end(tmp_path: Path) -> None:
    data = b"\0\0\1\xba" + bytes(range(256)) * 40
    with pytest.raises(InvalidMedia):
        list(read_growing(tmp_path / "growing", data, MediaRequest(frames=(RATED,))))


def test_a_reader_waits_for_a_writer(tmp_path: Path) -> None:
    """In two threads, as it is between two processes."""
    writer = Writer(tmp_path / "growing", bytes(range(256)) * 100)
    file = GrowingFile(writer.descriptor, writer.growth)

    def write() -> None:
        while writer.pieces:
            writer.write_next()

    thread = threading.Thread(target=write)
    thread.start()
    read = b""
    while data := file.read(1000):
        read += data
    thread.join()
    assert read == bytes(range(256)) * 100
    os.close(writer.descriptor)
    os.close(writer.growth)


def box(kind: bytes, length: int) -> bytes:
    return (8 + length).to_bytes(4) + kind + bytes(length)


@pytest.mark.parametrize(
    ("head", "is_last"),
    [
        (box(b"ftyp", 24) + box(b"mdat", 1000), True),
        (box(b"ftyp", 24) + box(b"free", 0) + box(b"mdat", 1000), True),
        (box(b"ftyp", 24) + box(b"moov", 1000), False),
        (box(b"ftyp", 24) + box(b"free", 9000), False),  # cannot be told
        (box(b"ftyp", 24)[:3] + b"\x02" + box(b"ftyp", 24)[4:], False),
        (b"\0\0\0\1ftyp" + (40).to_bytes(8) + bytes(24) + box(b"mdat", 99), True),
        (b"\0\0\0\1ftyp" + bytes(40), False),
        (b"\x1aE\xdf\xa3" + bytes(99), False),
        (b"", False),
    ],
)
def test_where_an_index_is(head: bytes, is_last: bool) -> None:
    assert index_comes_last(head) == is_last
