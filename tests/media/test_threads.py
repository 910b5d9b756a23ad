"""Decoder threads change when frames come, not what they are."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from app.media.request import FrameChunk, FrameSpec, MediaRequest, MediaSummary
from app.media.sandbox import DecoderPool
from tests.media.reference import read_frames
from tests.media.test_exact import STREAMS
from tests.media_maker import moving_frames, write_video

SPEC = FrameSpec(48, 32, clip_length=7)
NAMES = (
    "h264-no-b",
    "h264-b-pyramid",
    "h264-open-gop",
    "h264-intra-refresh",
    "h264-interlaced",
    "hevc",
    "vp9",
    "mpeg4-b",
)


@pytest.mark.parametrize("name", NAMES)
def test_the_frames_are_the_same(name: str, tmp_path: Path) -> None:
    stream = STREAMS[name]
    path = tmp_path / f"video{stream.suffix}"
    write_video(path, moving_frames(40, 640, 480), 25, stream.codec, options=stream.options, **stream.more)
    (expected,), events = read_frames(path, MediaRequest(frames=(SPEC,)))
    alone = events[-1]
    assert isinstance(alone, MediaSummary)
    for threads in (2, 4):
        (frames,), events = read_frames(path, MediaRequest(frames=(SPEC,), threads=threads))
        np.testing.assert_array_equal(frames, expected)
        summary = events[-1]
        assert isinstance(summary, MediaSummary)
        assert (summary.frames_decoded, summary.frames_skipped) == (alone.frames_decoded, alone.frames_skipped)


def test_a_worker_that_is_shut_in_has_threads(tmp_path: Path) -> None:
    path = write_video(tmp_path / "video.mp4", moving_frames(40, 640, 480), 25)
    (expected,), _ = read_frames(path, MediaRequest(frames=(SPEC,)))

    async def run() -> list[np.ndarray]:
        pool = DecoderPool(1)
        await pool.start()
        try:
            with path.open("rb") as file:
                deadline = asyncio.get_running_loop().time() + 60
                events = pool.read(file.fileno(), MediaRequest(frames=(SPEC,), threads=3), deadline)
                frames = [event.frames async for event in events if isinstance(event, FrameChunk)]
            assert not pool.restarts
            return frames
        finally:
            await pool.close()

    np.testing.assert_array_equal(np.concatenate(asyncio.run(run())), expected)
