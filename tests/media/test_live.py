"""Videos and sounds that are decoded while they are sent."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from app.errors import DeadlineExceeded, InvalidMedia, MediaTooLarge, Overloaded, UnsupportedMedia
from app.media.decode import read_media
from app.media.live import LiveDecoder, LiveDecoders
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaLimits,
    MediaRequest,
    MediaSummary,
    WaveformChunk,
    WaveformSpec,
)
from tests.media_maker import moving_frames, sine, write_sound, write_video

FRAMES = FrameSpec(48, 32, rate=8.0, chunk_length=1)
SOUND = WaveformSpec(8000, 400)
MEMORY = 2**30


def run(
    work: Callable[[LiveDecoders], Awaitable[None]], limits: MediaLimits | None = None, max_decoders: int = 2
) -> None:
    async def main() -> None:
        decoders = LiveDecoders(2, MEMORY, limits or MediaLimits())
        try:
            await work(decoders)
        finally:
            await decoders.close()

    asyncio.run(main())


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def feed(decoder: LiveDecoder, data: bytes, pieces: int = 7) -> None:
    size = max(1, -(-len(data) // pieces))
    for at in range(0, len(data), size):
        await decoder.feed(data[at : at + size])
    decoder.end()


async def decode(decoders: LiveDecoders, data: bytes, request: MediaRequest) -> list[MediaEvent]:
    decoder = await decoders.open(request)
    feeding = asyncio.create_task(feed(decoder, data))
    try:
        return [event async for event in decoder.events(in_seconds(60))]
    finally:
        await feeding
        await decoders.release(decoder)


def frames_of(events: list[MediaEvent]) -> tuple[np.ndarray, np.ndarray]:
    chunks = [event for event in events if isinstance(event, FrameChunk)]
    return np.concatenate([chunk.frames for chunk in chunks]), np.concatenate([chunk.times for chunk in chunks])


@pytest.mark.parametrize(
    ("name", "codec", "rate", "options"),
    [
        ("v.ts", "libx264", 25, {}),
        ("v.mkv", "libx264", 24, {}),
        ("v.webm", "libvpx", 30, {}),
        ("v.avi", "mpeg4", 8, {}),
        ("v.flv", "flv", 15, {}),
        ("faststart.mp4", "libx264", 3, {"container_options": {"movflags": "faststart"}}),
        ("fragmented.mp4", "libx264", 12, {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    ],
)
def test_frames_are_those_of_the_file(tmp_path: Path, name: str, codec: str, rate: int, options: dict) -> None:
    video = write_video(tmp_path / name, moving_frames(2 * rate + 1), rate, codec, **options)
    with video.open("rb") as file:
        expected, expected_times = frames_of(list(read_media(file, MediaRequest(frames=(FRAMES,)))))

    async def work(decoders: LiveDecoders) -> None:
        info, *rest = await decode(decoders, video.read_bytes(), MediaRequest(frames=(FRAMES,), source="arriving"))
        assert isinstance(info, MediaInfo)
        assert (info.width, info.height) == (96, 64)
        found, times = frames_of(rest)
        assert np.array_equal(found, expected)
        assert np.array_equal(times, expected_times)
        assert isinstance(rest[-1], MediaSummary)

    run(work)


@pytest.mark.parametrize(("name", "codec"), [("s.wav", "pcm_s16le"), ("s.ogg", "libopus"), ("s.mka", "libopus")])
def test_sound_is_that_of_the_file(tmp_path: Path, name: str, codec: str) -> None:
    sound = write_sound(tmp_path / name, sine(2.0, 48000), 48000, codec)
    with sound.open("rb") as file:
        events = list(read_media(file, MediaRequest(waveforms=(SOUND,))))
    expected = np.concatenate([event.waveform for event in events if isinstance(event, WaveformChunk)])

    async def work(decoders: LiveDecoders) -> None:
        events = await decode(decoders, sound.read_bytes(), MediaRequest(waveforms=(SOUND,), source="arriving"))
        chunks = [event.waveform for event in events if isinstance(event, WaveformChunk)]
        assert {len(chunk) for chunk in chunks[:-1]} == {400}
        assert np.array_equal(np.concatenate(chunks), expected)

    run(work)


def test_frames_come_before_the_rest_is_sent(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.ts", moving_frames(100, 160, 120), 25).read_bytes()

    async def work(decoders: LiveDecoders) -> None:
        decoder = await decoders.open(MediaRequest(frames=(FRAMES,), source="arriving"))
        await decoder.feed(data[: len(data) * 3 // 4])
        events = decoder.events(in_seconds(60))
        early = [await anext(events) for _ in range(10)]
        assert sum(isinstance(event, FrameChunk) for event in early) == 9
        await feed(decoder, data[len(data) * 3 // 4 :])
        assert len(early) + len([event async for event in events]) == 1 + 32 + 1

    run(work)


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"", InvalidMedia), (b"text " * 1000, UnsupportedMedia), (b"\x1aE\xdf\xa3" + bytes(1000), InvalidMedia)],
)
def test_what_is_no_video_is_refused(data: bytes, error: type[Exception]) -> None:
    async def work(decoders: LiveDecoders) -> None:
        with pytest.raises(error):
            await decode(decoders, data, MediaRequest(frames=(FRAMES,), source="arriving"))

    run(work)


def test_a_stream_that_is_longer_than_allowed_is_refused(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.ts", moving_frames(50), 10).read_bytes()

    async def work(decoders: LiveDecoders) -> None:
        with pytest.raises(MediaTooLarge, match="the limit is 3 s"):
            await decode(decoders, data, MediaRequest(frames=(FRAMES,), source="arriving"))

    run(work, MediaLimits(max_duration_seconds=3.0))


def test_silence_ends_at_the_deadline() -> None:
    async def work(decoders: LiveDecoders) -> None:
        decoder = await decoders.open(MediaRequest(frames=(FRAMES,), source="arriving"))
        with pytest.raises(DeadlineExceeded):
            _ = [event async for event in decoder.events(in_seconds(0.2))]

    run(work)


def test_a_decoder_that_dies_costs_its_own_stream_only(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.ts", moving_frames(30), 10).read_bytes()
    request = MediaRequest(frames=(FRAMES,), source="arriving")

    async def work(decoders: LiveDecoders) -> None:
        decoder = await decoders.open(request)
        other = asyncio.create_task(decode(decoders, data, request))
        decoder._worker.kill()
        with pytest.raises(InvalidMedia, match="crashed the decoder"):
            _ = [event async for event in decoder.events(in_seconds(60))]
        await decoder.feed(data)  # no error: `events` has told
        assert len(await other) > 20

    run(work)


def test_there_are_no_more_decoders_than_allowed_and_none_is_left() -> None:
    request = MediaRequest(frames=(FRAMES,), source="arriving")

    async def work(decoders: LiveDecoders) -> None:
        first, _ = [await decoders.open(request) for _ in range(2)]
        assert decoders.num_decoders == 2
        with pytest.raises(Overloaded, match="All 2 decoders"):
            await decoders.open(request)
        await decoders.release(first)
        await decoders.release(first)  # once is enough
        assert decoders.num_decoders == 1
        await decoders.open(request)

    run(work)


def test_what_is_fed_too_fast_waits(tmp_path: Path) -> None:
    """Nobody takes the frames: then the decoder takes no more bytes, and neither end keeps them."""
    data = write_video(tmp_path / "v.ts", moving_frames(100, 640, 480), 25, options={"qp": "10"}).read_bytes()
    spec = FrameSpec(640, 480, rate=25.0, chunk_length=1)

    async def work(decoders: LiveDecoders) -> None:
        decoder = await decoders.open(MediaRequest(frames=(spec,), source="arriving"))
        feeding = asyncio.create_task(feed(decoder, data * 4, 400))
        events = decoder.events(in_seconds(60))
        await anext(events)
        await asyncio.sleep(1.0)
        assert not feeding.done()
        feeding.cancel()

    run(work)
