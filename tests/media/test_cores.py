"""Several cores for one file; that they do not change what is decoded, `test_exact` shows of every kind of file."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import FrameType

import av
import numpy as np
import pytest

from app.errors import MediaTooLarge
from app.media.decode import read_media
from app.media.groups import GroupDecoder
from app.media.request import FrameChunk, FrameSpec, MediaLimits, MediaRequest, MediaSummary
from app.media.sandbox import DecoderPool
from tests.media.reference import decode_everything, pick_spread, read_frames
from tests.media_maker import moving_frames, write_video

SPEC = FrameSpec(48, 32, clip_length=7)
GROUPS_OF_TEN = {"x264-params": "keyint=10:min-keyint=10:scenecut=0"}


def write_groups(path: Path, num_frames: int = 40, size: tuple[int, int] = (640, 480)) -> Path:
    return write_video(path, moving_frames(num_frames, *size), 25, options=GROUPS_OF_TEN)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_groups(tmp_path_factory.mktemp("groups") / "video.mp4")


@pytest.fixture(scope="module")
def large_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_groups(tmp_path_factory.mktemp("groups") / "large.mp4", size=(1920, 1080))


def count_groups(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object] = lambda: None) -> list[int]:
    """The first packet of each group that is decoded from now on; `before` each."""
    firsts: list[int] = []
    decode = GroupDecoder.decode

    def counted(self: GroupDecoder, group, stop):  # type: ignore[no-untyped-def]
        firsts.append(group.first)
        before()
        return decode(self, group, stop)

    monkeypatch.setattr(GroupDecoder, "decode", counted)
    return firsts


def test_groups_are_decoded_at_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,), _ = read_frames(video, MediaRequest(frames=(SPEC,)))
    both_at_work = threading.Barrier(2)
    firsts = count_groups(monkeypatch, lambda: both_at_work.wait(20))  # raises unless two get there
    (frames,), events = read_frames(video, MediaRequest(frames=(SPEC,), cores=2))
    np.testing.assert_array_equal(frames, expected)
    assert sorted(firsts) == [0, 10, 20, 30]
    assert isinstance(events[-1], MediaSummary)
    assert events[-1].frames_decoded + events[-1].frames_skipped == 40


@pytest.mark.parametrize(("pictures_at_once", "at_once"), [(2, True), (1.99, False)])
def test_together_decoders_have_no_more_pixels_than_one_may_have(
    pictures_at_once: float, at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_groups(tmp_path / "video.mp4", size=(96, 64))
    firsts = count_groups(monkeypatch)
    limits = MediaLimits(max_pixels=int(pictures_at_once * 96 * 64))
    with path.open("rb") as file:
        events = list(read_media(file, MediaRequest(frames=(SPEC,), cores=2), limits))
    assert isinstance(events[-1], MediaSummary)
    assert bool(firsts) == at_once


def test_no_thread_begins_once_decoders_take_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might find none and end before it says that it has begun, for which whoever starts it waits."""
    path = write_groups(tmp_path / "video.mp4", 80, (96, 64))
    threads: list[int] = []
    count_groups(
        monkeypatch, lambda: threads.append(sum(one.name.startswith("group") for one in threading.enumerate()))
    )
    read_frames(path, MediaRequest(frames=(SPEC,), cores=4))
    assert set(threads) == {4}


def test_a_thread_that_is_held_up_gets_no_decoder_that_is_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_groups(tmp_path / "video.mp4", 80, (96, 64))
    (expected,), _ = read_frames(path, MediaRequest(frames=(SPEC,)))
    others_went_on = threading.Event()
    firsts = count_groups(monkeypatch, lambda: len(firsts) < 3 or others_went_on.set())

    def hold_up(frame: FrameType, event: str, _: object) -> None:
        is_called = event == "call" and frame.f_code.co_qualname == "decode_at_once.<locals>.decode"
        if is_called and frame.f_locals["group"].first == 10:  # the second
            assert others_went_on.wait(20)

    threading.setprofile(hold_up)
    try:
        (frames,), _ = read_frames(path, MediaRequest(frames=(SPEC,), cores=2))
    finally:
        threading.setprofile(None)
    np.testing.assert_array_equal(frames, expected)
    assert others_went_on.is_set()


def test_only_groups_of_which_something_is_wanted_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_groups(tmp_path / "video.mp4", 160, (96, 64))
    firsts = count_groups(monkeypatch)
    read_frames(path, MediaRequest(frames=(FrameSpec(48, 32, clip_length=8),), cores=2))
    assert sorted(firsts) == [0, 20, 40, 60, 90, 110, 130, 150]


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({"x264-params": "keyint=250"}, SPEC),  # a single group
        ({"x264-params": "keyint=30:min-keyint=30:scenecut=0"}, SPEC),  # of 40 frames: of unlike length
        (GROUPS_OF_TEN, FrameSpec(0, 0, rate=25.0)),  # frames of any size, to be held
        (GROUPS_OF_TEN, FrameSpec(600, 600, rate=25.0)),  # large ones
    ],
)
def test_a_decoder_is_alone_where_that_is_better(
    options: dict[str, str], spec: FrameSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "video.mp4", moving_frames(40, 96, 64), 25, options=options)
    firsts = count_groups(monkeypatch)
    (alone,), _ = read_frames(path, MediaRequest(frames=(spec,)))
    (frames,), _ = read_frames(path, MediaRequest(frames=(spec,), cores=2))
    np.testing.assert_array_equal(frames, alone)
    assert not firsts


def test_pictures_whose_size_changes_are_those_of_a_single_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "video.avi"
    write_pictures(path, [(96, 64)] * 20 + [(64, 96)] * 20)
    firsts = count_groups(monkeypatch)
    spec = FrameSpec(40, 40, fit="keep", clip_length=8)
    (frames,), events = read_frames(path, MediaRequest(frames=(spec,), cores=2))
    pictures, seconds, _ = decode_everything(path, spec)
    np.testing.assert_array_equal(frames, pictures[pick_spread(seconds, 8)])
    assert firsts
    assert isinstance(events[-1], MediaSummary)
    assert events[-1].frames_skipped == 32  # in the end, by one decoder


def write_pictures(path: Path, sizes: list[tuple[int, int]]) -> None:
    """Motion JPEG, each picture of its own size, which no packet tells."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = *sizes[0], "yuvj420p"
        for number, (width, height) in enumerate(sizes):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            picture = moving_frames(number + 1, width, height)[-1]
            for packet in encoder.encode(av.VideoFrame.from_ndarray(picture, "rgb24")):
                packet.stream = stream
                packet.pts = packet.dts = number
                output.mux(packet)


def test_what_does_not_decode_ends_all_groups(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "video.mp4", 80)
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = bytes(400)
    path.write_bytes(damaged)
    (alone,), _ = read_frames(path, MediaRequest(frames=(SPEC,)))
    before = threading.active_count()
    (frames,), _ = read_frames(path, MediaRequest(frames=(SPEC,), cores=2))
    np.testing.assert_array_equal(frames, alone)
    assert threading.active_count() == before


def test_a_worker_that_is_shut_in_has_several_cores(video: Path) -> None:
    (expected,), _ = read_frames(video, MediaRequest(frames=(SPEC,)))
    np.testing.assert_array_equal(read_in_worker(video), expected)


def test_one_core_is_used_where_there_is_no_memory_for_several(large_video: Path) -> None:
    (expected,), _ = read_frames(large_video, MediaRequest(frames=(SPEC,)))
    np.testing.assert_array_equal(read_in_worker(large_video, worker_memory_bytes=80 << 20), expected)


@pytest.mark.parametrize("megabytes", [8, 34, 46])
def test_frames_for_which_there_is_no_memory_are_not_passed_over(large_video: Path, megabytes: int) -> None:
    """FFmpeg calls them invalid data."""
    (expected,), _ = read_frames(large_video, MediaRequest(frames=(SPEC,)))
    with suppress(MediaTooLarge):
        np.testing.assert_array_equal(read_in_worker(large_video, worker_memory_bytes=megabytes << 20), expected)


def test_without_more_threads_one_decoder_keeps_to_the_plan(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected,), _ = read_frames(video, MediaRequest(frames=(SPEC,)))

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    (frames,), events = read_frames(video, MediaRequest(frames=(SPEC,), cores=2))
    np.testing.assert_array_equal(frames, expected)
    assert isinstance(events[-1], MediaSummary)
    assert events[-1].frames_skipped > 0


def read_in_worker(path: Path, **options: int) -> np.ndarray:
    """The frames of SPEC by four cores."""

    async def run() -> list[np.ndarray]:
        pool = DecoderPool(1, **options)
        await pool.start()
        try:
            with path.open("rb") as file:
                deadline = asyncio.get_running_loop().time() + 60
                events = pool.read(file.fileno(), MediaRequest(frames=(SPEC,), cores=4), deadline)
                frames = [event.frames async for event in events if isinstance(event, FrameChunk)]
            assert not pool.restarts
            return frames
        finally:
            await pool.close()

    return np.concatenate(asyncio.run(run()))
