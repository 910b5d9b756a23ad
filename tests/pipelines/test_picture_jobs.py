"""Pictures of several streams that share a job."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from app.errors import NotReady
from app.media.request import FrameSpec
from app.media.sandbox import DecoderPool
from app.pipelines.picture_jobs import Decoded, PictureDecoder
from tests.media_maker import moving_frames
from tests.streaming import picture

SIZES = [(64, 48), (64, 48), (32, 96), (96, 32)]


@asynccontextmanager
async def running_pool() -> AsyncIterator[DecoderPool]:
    """Of one worker."""
    pool = DecoderPool(1)
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def decode_at_once(spec: FrameSpec, sizes: list[tuple[int, int]]) -> list[Decoded]:
    """A picture of each size, by one worker: those after the first wait together."""

    async def run() -> list[Decoded]:
        async with running_pool() as pool:
            decoder, deadline = PictureDecoder(pool), asyncio.get_running_loop().time() + 60
            pictures = [picture(moving_frames(1, width, height)[0]) for width, height in sizes]
            return await asyncio.gather(*(decoder.decode([one], spec, deadline) for one in pictures))

    return asyncio.run(run())


def test_pictures_of_streams_without_a_size_yet_keep_their_own() -> None:
    assert [frame.shape[1::-1] for (frame,) in decode_at_once(FrameSpec(0, 0), SIZES)] == SIZES


def test_pictures_that_share_a_size_come_back_each_to_its_own() -> None:
    spec = FrameSpec(32, 24)
    for (found,), size in zip(decode_at_once(spec, SIZES), SIZES, strict=True):
        ((alone,),) = decode_at_once(spec, [size])
        np.testing.assert_array_equal(found, alone)


def test_streams_of_two_models_share_jobs_with_their_own() -> None:
    async def run() -> None:
        async with running_pool() as pool:
            decoder, deadline = PictureDecoder(pool), asyncio.get_running_loop().time() + 60
            one, specs = picture(moving_frames(1)[0]), [FrameSpec(32, 24), FrameSpec(16, 12)]
            await asyncio.gather(*(decoder.decode([one], specs[number % 2], deadline) for number in range(60)))
            (worker,) = pool._workers
            assert worker.num_jobs == 3  # the first picture at once, then all others of each size

    asyncio.run(run())


def test_without_a_file_handle_whoever_waits_is_told_at_once() -> None:
    async def run() -> None:
        async with running_pool() as pool:
            decoder, deadline = PictureDecoder(pool), asyncio.get_running_loop().time() + 60
            one, spec = picture(moving_frames(1)[0]), FrameSpec(32, 24)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                answers = (decoder.decode([one], spec, deadline) for _ in range(3))
                async with asyncio.timeout(10):
                    found = await asyncio.gather(*answers, return_exceptions=True)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert [type(error) for error in found] == [OSError] * 3
            (frame,) = await decoder.decode([one], spec, deadline)
            assert isinstance(frame, np.ndarray)

    asyncio.run(run())


def test_with_no_workers_any_more_whoever_waits_is_told_at_once() -> None:
    async def run() -> None:
        async with running_pool() as pool:
            decoder, deadline = PictureDecoder(pool), asyncio.get_running_loop().time() + 60
        async with asyncio.timeout(10):
            with pytest.raises(NotReady):
                await decoder.decode([picture(moving_frames(1)[0])], FrameSpec(32, 24), deadline)

    asyncio.run(run())
