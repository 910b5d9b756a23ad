"""One upload through the decoder, in one pass for everyone who wants frames or sound of it."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol, TypeVar

from app.errors import DeadlineExceeded
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaRequest,
    MediaSummary,
    Sampling,
    WaveformChunk,
    WaveformSpec,
)
from app.media.sandbox import DecoderPool
from app.models.manifest import Input

_Chunk = TypeVar("_Chunk", contravariant=True)


class Consumer(Protocol[_Chunk]):
    """Takes the chunks of one spec as they are decoded."""

    async def add(self, chunk: _Chunk) -> None:
        """The next chunk, in order."""

    async def finish(self) -> None:
        """There are no more chunks."""

    def abandon(self) -> None:
        """The upload has failed, or is done with: drops what is still under way."""


@dataclass(frozen=True, slots=True)
class Arriving:
    """What is needed to read an upload that has not arrived completely."""

    decoders: DecoderPool
    """Separate ones: they wait for the client, and nobody else must wait for them."""
    growth: int
    """Descriptor of a pipe in which there is something to read when the file has grown, and which ends with it."""
    finished: "asyncio.Future[None]"
    """Done once the last byte is there; fails with the reason where it will not come."""
    seconds: float
    """For the answer, from the last byte on."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What is read, of which part, and until when there is time."""

    descriptor: int
    """Of the open file."""
    deadline: float
    """By the event loop's clock. An upload that is still arriving has none (infinity) until it is complete."""
    start_seconds: float | None = None
    """From the first displayed frame; None: the beginning."""
    end_seconds: float | None = None
    sampling: Sampling = "exact"
    is_prompt: bool = False
    """Somebody is watching: what is known first is wanted first."""
    takes_partial: bool = False
    """What is known at the deadline is an answer."""
    arriving: Arriving | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Where an upload's time went, and how much media there was."""

    decode: MediaSummary
    queue_seconds: float
    """Waited for a decoder and, summed over calls, for a place in a batch."""
    infer_seconds: float
    """Of the model calls that this upload took part in."""


@dataclass(frozen=True, slots=True)
class Read:
    """What reading an upload came to."""

    media: MediaInfo
    summary: MediaSummary
    """Where the upload was not read to its end, it covers what was read, and counts only the frames that were taken."""
    ended: Literal["end", "enough", "deadline"] = "end"
    """Why no more was read."""


NOTHING_READ = MediaSummary(0.0, 0, 0, "exact", 0.0, 0.0)


async def read_for(
    decoders: DecoderPool,
    upload: Upload,
    frames: Sequence[tuple[FrameSpec, Consumer[FrameChunk]]] = (),
    waveforms: Sequence[tuple[WaveformSpec, Consumer[WaveformChunk]]] = (),
    on_chunk: Callable[[], None] | None = None,
    is_enough: Callable[[], bool] | None = None,
) -> Read:
    """Decodes the upload once and gives each consumer what its spec asks for, until all have finished.

    `on_chunk` is called after each chunk that a consumer has taken. Once `is_enough` is true, or time is up for an
    upload that takes a partial answer, no more is read and the consumers' `finish` is not called.
    Raises UnsupportedMedia, InvalidMedia, DeadlineExceeded.
    """
    request = MediaRequest(
        frames=tuple(spec for spec, _ in frames),
        waveforms=tuple(spec for spec, _ in waveforms),
        start_seconds=upload.start_seconds,
        end_seconds=upload.end_seconds,
        sampling=upload.sampling,
        is_prompt=upload.is_prompt,
        source="file" if upload.arriving is None else "growing",
    )
    arriving = upload.arriving
    if arriving is None:
        events = decoders.read(upload.descriptor, request, upload.deadline)
    else:
        events = arriving.decoders.read(upload.descriptor, request, math.inf, arriving.growth)
    consumers = _Consumers(upload, frames, waveforms)
    try:
        async with asyncio.timeout_at(upload.deadline) as limit, aclosing(events):
            if arriving is not None:
                arriving.finished.add_done_callback(partial(_limit, limit, arriving.seconds))
            async for event in events:
                await consumers.take(event)
                if on_chunk is not None and isinstance(event, FrameChunk | WaveformChunk):
                    on_chunk()
                if is_enough is not None and is_enough():
                    return consumers.read("enough")
            await consumers.finish()
            return consumers.read("end")
    except (TimeoutError, DeadlineExceeded) as late:
        if arriving is not None and arriving.finished.done():
            arriving.finished.result()  # it was this that ended it, if it failed
        if upload.takes_partial and consumers.media is not None:
            return consumers.read("deadline")
        raise DeadlineExceeded("The file could not be read to its end before the deadline.") from late
    finally:
        consumers.abandon()


@dataclass(slots=True)
class _Consumers:
    """All who want something of one upload, and what is known of it."""

    upload: Upload
    watching: Sequence[tuple[FrameSpec, Consumer[FrameChunk]]]
    listening: Sequence[tuple[WaveformSpec, Consumer[WaveformChunk]]]
    media: MediaInfo | None = None
    summary: MediaSummary = NOTHING_READ
    num_frames: Counter[int] = field(default_factory=Counter)
    """Taken, of each spec: the same ones, where several want them."""

    async def take(self, event: MediaEvent) -> None:
        match event:
            case FrameChunk():
                wanted, watcher = self.watching[event.spec]
                self.num_frames[event.spec] += len(event.frames)
                self._count(event, float(event.times[-1]) + (1 / wanted.rate if wanted.rate else 0.0))
                await watcher.add(event)
            case WaveformChunk():
                heard, listener = self.listening[event.spec]
                self._count(event, event.start_seconds + len(event.waveform) / heard.sample_rate)
                await listener.add(event)
            case MediaInfo():
                self.media = event
            case MediaSummary():
                self.summary = event

    @property
    def all(self) -> "list[Consumer[FrameChunk] | Consumer[WaveformChunk]]":
        return [*(watcher for _, watcher in self.watching), *(listener for _, listener in self.listening)]

    async def finish(self) -> None:
        for consumer in self.all:
            await consumer.finish()

    def abandon(self) -> None:
        for consumer in self.all:
            consumer.abandon()

    def read(self, ended: Literal["end", "enough", "deadline"]) -> Read:
        assert self.media is not None
        return Read(self.media, self.summary, ended)

    def _count(self, chunk: FrameChunk | WaveformChunk, end_seconds: float) -> None:
        """What has been read with `chunk`, which ends at `end_seconds`."""
        arriving, before = self.upload.arriving, self.summary
        self.summary = replace(
            before,
            duration_seconds=max(before.duration_seconds, end_seconds - (self.upload.start_seconds or 0.0)),
            frames_decoded=max(self.num_frames.values(), default=0),
            queue_seconds=chunk.queue_seconds,
            decode_seconds=chunk.decode_seconds,
            while_uploading=before.while_uploading or (arriving is not None and not arriving.finished.done()),
        )


def _limit(limit: asyncio.Timeout, seconds: float, finished: "asyncio.Future[None]") -> None:
    """The upload is there, and the time for the answer begins; or it will not come, and the time is over."""
    if not finished.cancelled():
        now = asyncio.get_running_loop().time()
        with suppress(RuntimeError):  # all is done already
            limit.reschedule(now if finished.exception() is not None else now + seconds)


def frame_spec(
    wanted: Input,
    *,
    clip_length: int = 0,
    rate: float = 0.0,
    chunk_length: int | None = None,
    last_seconds: float | None = None,
) -> FrameSpec:
    """Frames of the size that a model wants, chosen as FrameSpec says; `chunk_length` is that of a clip by default."""
    assert wanted.fit is not None
    return FrameSpec(
        width=wanted.width if isinstance(wanted.width, int) else 0,
        height=wanted.height if isinstance(wanted.height, int) else 0,
        fit=wanted.fit,
        longest_side=wanted.longest_side or 0,
        clip_length=clip_length,
        rate=rate,
        last_seconds=last_seconds,
        chunk_length=chunk_length or clip_length,
    )


def step_spec(wanted: Input, chunk_seconds: float) -> WaveformSpec:
    """Sound for a model that steps: in chunks of whole steps that last about `chunk_seconds`."""
    assert wanted.sample_rate is not None
    assert wanted.step_samples is not None
    num_steps = max(1, round(chunk_seconds * wanted.sample_rate / wanted.step_samples))
    return WaveformSpec(wanted.sample_rate, num_steps * wanted.step_samples)
