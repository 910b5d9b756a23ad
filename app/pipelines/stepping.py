"""A stream's next steps from what one request brings: a chunk as a file, or some pictures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from app.errors import MalformedRequest, MediaTooLarge, ServiceError
from app.media.request import FrameChunk, MediaInfo, MediaSummary, WaveformChunk
from app.media.sandbox import DecoderPool
from app.pipelines.picture_jobs import PictureDecoder
from app.pipelines.reading import Upload, read_for
from app.pipelines.stream import Stream, StreamStep

CHUNK_FRAMES = 16
CHUNK_SECONDS = 2.0  # of sound in one step
MAX_STEPS = 20_000
"""In one answer: 40 minutes at 8 frames a second."""


class Pictures(Protocol):
    """Encoded pictures that are read when it is their turn."""

    def __len__(self) -> int: ...

    async def read(self, first: int, most: int) -> list[bytes]:
        """Up to `most` of them, at least one, from number `first` on."""


async def step_file(
    decoders: DecoderPool, upload: Upload, stream: Stream, max_values: int
) -> tuple[list[StreamStep], MediaInfo, MediaSummary]:
    """The steps over a whole file, as if it followed what the stream has seen or heard.

    Raises UnsupportedMedia, InvalidMedia, MediaTooLarge over MAX_STEPS or `max_values` numbers in their vectors,
    DeadlineExceeded.
    """
    follower = _Follower(stream, max_values)
    if stream.model.manifest.input.media == "audio":
        read = await read_for(decoders, upload, waveforms=[(stream.sound_spec(CHUNK_SECONDS), _Listener(follower))])
    else:
        read = await read_for(decoders, upload, [(stream.frame_spec(CHUNK_FRAMES), _Watcher(follower))])
    return follower.steps, read.media, read.summary


async def step_pictures(
    decoder: PictureDecoder, pictures: Pictures, times: Sequence[float] | None, deadline: float, stream: Stream
) -> tuple[list[StreamStep], MediaSummary]:
    """The steps over `pictures`, on display from `times` on; without them, at the model's rate.

    For the summary each lasts one step, and is decoded from when it waits for that: pictures of several share a job.
    Raises MalformedRequest where `times` begin before what the stream has seen, UnsupportedMedia, InvalidMedia for the
    first picture that does not decode, DeadlineExceeded.
    """
    if times is None:
        times = [stream.seconds + number / stream.rate for number in range(len(pictures))]
    elif times[0] < stream.earliest_seconds:
        raise MalformedRequest(f"A picture at {times[0]:g} s came after one at {stream.earliest_seconds:g} s.")
    steps: list[StreamStep] = []
    done, decode_seconds = 0, 0.0
    while done < len(pictures):
        spec = stream.frame_spec(CHUNK_FRAMES)
        encoded = await pictures.read(done, CHUNK_FRAMES if spec.width else 1)  # the first one gives the size
        after = done + len(encoded)
        began = time.perf_counter()
        found = await decoder.decode(encoded, spec, deadline)
        decode_seconds += time.perf_counter() - began
        for number, frame in enumerate(found, start=done + 1):
            if isinstance(frame, ServiceError):
                raise type(frame)(f"Picture {number} of {len(pictures)}: {frame}")
        frames = np.stack([frame for frame in found if isinstance(frame, np.ndarray)])
        steps += await stream.step_frames(frames, np.array(times[done:after]))
        done = after
    return steps, MediaSummary(done / stream.rate, done, 0, "exact", 0.0, decode_seconds)


@dataclass
class _Follower:
    stream: Stream
    max_values: int
    steps: list[StreamStep] = field(default_factory=list)
    num_values: int = 0

    def __post_init__(self) -> None:
        self.offset_seconds = self.stream.seconds

    def take(self, steps: list[StreamStep]) -> None:
        self.steps += steps
        self.num_values += sum(step.reading.features.size for step in steps if step.reading.features is not None)
        if len(self.steps) > MAX_STEPS or self.num_values > self.max_values:
            raise MediaTooLarge(
                f"The chunk has more than {MAX_STEPS} steps, or {self.max_values} numbers in their vectors: send it in "
                "parts, each with the state."
            )


@dataclass
class _Watcher:
    follower: _Follower

    async def add(self, chunk: FrameChunk) -> None:
        follower = self.follower
        follower.take(await follower.stream.step_frames(chunk.frames, chunk.times + follower.offset_seconds))

    async def finish(self) -> None: ...

    def abandon(self) -> None: ...


@dataclass
class _Listener:
    follower: _Follower

    async def add(self, chunk: WaveformChunk) -> None:
        self.follower.take(await self.follower.stream.step_sound(chunk.waveform))

    async def finish(self) -> None: ...

    def abandon(self) -> None: ...
