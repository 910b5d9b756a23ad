"""Decoder threads in a worker; that they do not change what is decoded, `test_exact` shows of every kind of file."""

import asyncio
from pathlib import Path

import numpy as np

from app.media.request import FrameChunk, FrameSpec, MediaRequest
from app.media.sandbox import DecoderPool
from tests.media.reference import read_frames
from tests.media_maker import moving_frames, write_video

SPEC = FrameSpec(48, 32, clip_length=7)


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
