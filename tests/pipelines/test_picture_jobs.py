"""Pictures of several streams that share a job."""

import asyncio

import numpy as np

from app.media.request import FrameSpec
from app.media.sandbox import DecoderPool
from app.pipelines.picture_jobs import Decoded, PictureDecoder
from tests.media_maker import moving_frames
from tests.streaming import picture

SIZES = [(64, 48), (64, 48), (32, 96), (96, 32)]


def decode_at_once(spec: FrameSpec, sizes: list[tuple[int, int]]) -> list[Decoded]:
    """A picture of each size, by one worker: those after the first wait together."""

    async def run() -> list[Decoded]:
        pool = DecoderPool(1)
        await pool.start()
        try:
            decoder, deadline = PictureDecoder(pool), asyncio.get_running_loop().time() + 60
            pictures = [picture(moving_frames(1, width, height)[0]) for width, height in sizes]
            return await asyncio.gather(*(decoder.decode([one], spec, deadline) for one in pictures))
        finally:
            await pool.close()

    return asyncio.run(run())


def test_pictures_of_streams_without_a_size_yet_keep_their_own() -> None:
    assert [frame.shape[1::-1] for (frame,) in decode_at_once(FrameSpec(0, 0), SIZES)] == SIZES


def test_pictures_that_share_a_size_come_back_each_to_its_own() -> None:
    spec = FrameSpec(32, 24)
    for (found,), size in zip(decode_at_once(spec, SIZES), SIZES, strict=True):
        ((alone,),) = decode_at_once(spec, [size])
        np.testing.assert_array_equal(found, alone)
