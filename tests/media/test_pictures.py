"""Single pictures through the sandbox."""

import asyncio
import io
import os

import numpy as np
import pytest
from PIL import Image

from app.errors import InvalidMedia, UnsupportedMedia
from app.media.pictures import pack_pictures, picture_decoder, read_pictures
from app.media.request import FrameChunk, FrameSpec, MediaLimits, MediaRequest, MediaSummary
from app.media.sandbox import DecoderPool
from tests.media_maker import moving_frames
from tests.streaming import picture

OWN_SIZE = FrameSpec(0, 0)


def read(pictures: list[bytes], *specs: FrameSpec, limits: MediaLimits | None = None) -> list[np.ndarray]:
    request = MediaRequest(frames=specs or (OWN_SIZE,), source="pictures")
    *chunks, summary = read_pictures(io.BytesIO(pack_pictures(pictures)), request, limits or MediaLimits())
    assert isinstance(summary, MediaSummary)
    assert summary.frames_decoded == len(pictures)
    return [frame for chunk in chunks if isinstance(chunk, FrameChunk) for frame in chunk.frames]


@pytest.mark.parametrize(("kind", "decoder"), [("PNG", "png"), ("WEBP", "webp"), ("JPEG", "mjpeg")])
def test_pictures_come_out_as_they_went_in(kind: str, decoder: str) -> None:
    frames = moving_frames(3)
    pictures = [picture(frame, kind) for frame in frames]
    assert [picture_decoder(data) for data in pictures] == [decoder] * 3
    found = np.stack(read(pictures))
    if kind == "JPEG":  # lossy: compared with what another decoder makes of it
        frames = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in pictures])
        assert np.abs(found.astype(int) - frames).mean() < 3  # levels of 255: halved chroma is enlarged in other ways
    else:
        assert np.array_equal(found, frames)


def test_they_come_in_chunks() -> None:
    pictures = [picture(frame) for frame in moving_frames(5)]
    request = MediaRequest(frames=(FrameSpec(0, 0, chunk_length=2),), source="pictures")
    *chunks, _ = read_pictures(io.BytesIO(pack_pictures(pictures)), request, MediaLimits())
    assert [len(chunk.frames) for chunk in chunks if isinstance(chunk, FrameChunk)] == [2, 2, 1]


def test_each_spec_gets_its_size() -> None:
    small, large = read([picture(moving_frames(1)[0])], FrameSpec(32, 24), FrameSpec(64, 64, fit="pad"))
    assert small.shape == (24, 32, 3)
    assert large.shape == (64, 64, 3)


def test_a_picture_that_a_camera_turned_is_turned_back() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the top of the scene is on the right
    Image.fromarray(moving_frames(1)[0]).save(buffer, "JPEG", exif=exif)
    assert read([buffer.getvalue()])[0].shape == (96, 64, 3)


def test_grey_transparent_and_palette_pictures_are_taken() -> None:
    image = Image.fromarray(moving_frames(1)[0])
    for mode in ("L", "RGBA", "P", "1"):
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, "PNG")
        assert read([buffer.getvalue()])[0].shape == (64, 96, 3)


@pytest.mark.parametrize("data", [b"", b"x", b"GIF89a" + bytes(50), b"RIFF0000WAVE" + bytes(50), b"<svg/>"])
def test_other_kinds_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="JPEG, PNG or WebP"):
        read([data])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_damaged_pictures_are_refused(kind: str) -> None:
    whole = picture(moving_frames(1)[0], kind)
    for data in (whole[:16], whole[:16] + bytes(len(whole))):
        with pytest.raises(InvalidMedia):
            read([data])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_pictures_over_the_limit_are_refused_before_they_are_decoded(kind: str) -> None:
    with pytest.raises(InvalidMedia, match="6143 pixels"):
        read([picture(moving_frames(1)[0], kind)], limits=MediaLimits(max_pixels=96 * 64 - 1))


@pytest.fixture
def bomb() -> bytes:
    """A PNG of a megabyte that is 900 million pixels of nothing."""
    Image.MAX_IMAGE_PIXELS = None
    buffer = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_bomb_costs_the_sandbox_nothing(bomb: bytes) -> None:
    async def run() -> None:
        pool = DecoderPool(1)
        await pool.start()
        try:
            for data, expected in ((bomb, InvalidMedia), (picture(moving_frames(1)[0]), None)):
                descriptor = os.memfd_create("pictures")
                os.write(descriptor, pack_pictures([data]))
                request = MediaRequest(frames=(FrameSpec(32, 24),), source="pictures", num_pictures=1)
                deadline = asyncio.get_running_loop().time() + 30
                try:
                    events = [event async for event in pool.read(descriptor, request, deadline)]
                    assert expected is None
                    assert len(events) == 2
                except InvalidMedia:
                    assert expected is InvalidMedia
                os.close(descriptor)
            assert not pool.restarts
        finally:
            await pool.close()

    asyncio.run(run())
