"""What feeds a session: single pictures, or a video or sound that is still being sent. Both bounded, both in order."""

import asyncio
import math
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import MalformedRequest, ServiceError
from app.media.live import LiveDecoder, LiveDecoders
from app.media.request import FrameChunk, MediaRequest, MediaSummary, WaveformChunk
from app.pipelines.picture_jobs import PictureDecoder
from app.pipelines.stream import Stream

MAX_CHUNK_FRAMES = 16
"""Waiting frames that one step takes at most: a frame in a chunk of 16 costs a fifth of a frame alone."""
MAX_WAITING_BYTES = 8 << 20  # of pictures, in one session
MAX_WAITING_CHUNKS = 4  # of a video or sound, encoded
LIVE_CHUNK_SECONDS = 0.25  # of sound in one step

MAX_SECONDS = 1e12
"""Largest time of a picture, either way: 30,000 years, to a tenth of a millisecond. Beyond, steps cannot be counted."""
PACE_TOLERANCE = 0.25
"""Share of the time between two steps by which a picture may come early: a camera's clock is not the model's."""

Backpressure = Literal["drop", "block"]
Pace = Literal["each", "model"]


@dataclass(frozen=True, slots=True)
class Picture:
    number: int
    """From 0, counting all that the session received."""
    seconds: float
    data: bytes
    received: float
    """By the event loop's clock."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What is stepped over next."""

    stream: Stream
    """That it was taken for: by the time it is decoded, the session may have gone back."""
    frames: NDArray[np.uint8] | None = None
    """(T, H, W, 3)"""
    times: NDArray[np.float64] | None = None
    """(T,)"""
    waveform: NDArray[np.float32] | None = None
    """(N,)"""
    pictures: tuple[int, ...] | None = None
    """(T,) their numbers."""
    received: tuple[float, ...] | None = None
    """(T,) when they came, by the event loop's clock."""
    refused: tuple[tuple[int, ServiceError], ...] = ()
    """Pictures that do not decode, by number."""


class PictureSource:
    """Pictures as they are sent. Where they come faster than they are judged, they wait or the oldest are dropped."""

    end_seconds = math.inf
    """Nobody says how long the last one is on display: for its step."""

    def __init__(
        self,
        stream: Stream,
        decoder: PictureDecoder,
        backpressure: Backpressure,
        max_in_flight: int,
        seconds: float,
        pace: Pace = "each",
    ) -> None:
        """`max_in_flight`: pictures that wait, beside those at work. `seconds`: that decoding some may take.

        `pace`: takes each picture, or as many a second as the model was trained for.
        """
        self.stream = stream
        self.num_received = 0
        self.num_dropped = 0
        self.num_passed = 0
        """That came between two steps of the model."""
        self._pace = pace
        self._due: float | None = stream.seconds if stream.sequence else None  # the next step; None: at once
        self._decoder = decoder
        self._backpressure = backpressure
        self._max_in_flight = max_in_flight
        self._decode_seconds = seconds
        self._waiting: deque[Picture] = deque()
        self._changed = asyncio.Condition()
        self._ended = self._is_closed = False
        self._last_seconds = stream.earliest_seconds

    async def push(self, seconds: float, data: bytes) -> None:
        """Takes one more picture, on display from `seconds` on.

        Raises MalformedRequest where time runs backwards, or is over MAX_SECONDS. Cancelled, it has taken nothing.
        """
        if seconds < self._last_seconds:
            raise MalformedRequest(f"A picture at {seconds:g} s came after one at {self._last_seconds:g} s.")
        if abs(seconds) > MAX_SECONDS:
            raise MalformedRequest(f"The time of a picture is {seconds:g} s; the limit is {MAX_SECONDS:g} s.")
        due = self._due_after(seconds)
        if self._is_closed:
            return
        if due is None:
            self._last_seconds = seconds
            self.num_received += 1
            self.num_passed += 1
            return
        async with self._changed:
            if self._backpressure == "block":
                await self._changed.wait_for(lambda: not self._is_full(len(data)))
            while self._is_full(len(data)):
                self._waiting.popleft()
                self.num_dropped += 1
            self._due = due
            self._last_seconds = seconds
            self._waiting.append(Picture(self.num_received, seconds, data, asyncio.get_running_loop().time()))
            self.num_received += 1
            self._changed.notify_all()

    async def end(self) -> None:
        """No more will come."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def take(self) -> Taken | None:
        """What waits, decoded; None at the end. Raises DeadlineExceeded."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._waiting) or self._ended)
            if not self._waiting:
                return None
            stream = self.stream
            spec = stream.frame_spec(MAX_CHUNK_FRAMES)
            count = min(MAX_CHUNK_FRAMES, len(self._waiting)) if spec.width else 1  # the first one gives the size
            pictures = [self._waiting.popleft() for _ in range(count)]
            self._changed.notify_all()
        deadline = asyncio.get_running_loop().time() + self._decode_seconds
        found = await self._decoder.decode([picture.data for picture in pictures], spec, deadline)
        both = list(zip(pictures, found, strict=True))
        frames = [frame for frame in found if isinstance(frame, np.ndarray)]
        decoded = [picture for picture, frame in both if isinstance(frame, np.ndarray)]
        return Taken(
            stream,
            frames=np.stack(frames) if frames else None,
            times=np.array([picture.seconds for picture in decoded]),
            pictures=tuple(picture.number for picture in decoded),
            received=tuple(picture.received for picture in decoded),
            refused=tuple((picture.number, error) for picture, error in both if isinstance(error, ServiceError)),
        )

    async def rewind(self, stream: Stream) -> None:
        """Drops what waits and goes on with `stream`, whose time may lie before that of the last picture."""
        async with self._changed:
            self.stream = stream
            self._waiting.clear()
            self._due = stream.seconds if stream.sequence else None
            self._last_seconds = stream.earliest_seconds
            self._changed.notify_all()

    async def close(self) -> None:
        """Lets go of what waits, and takes no more: a session may be kept for long after its end."""
        self._is_closed = True
        self._waiting.clear()

    def _due_after(self, seconds: float) -> float | None:
        """When the step after a picture at `seconds` is due; None where the picture comes before its own step is due.

        Steps are 1 / rate apart from the first picture on, unless each picture is a step.
        """
        if self._pace == "each":
            return seconds
        step = 1 / self.stream.rate
        due = seconds if self._due is None else self._due
        late = seconds + PACE_TOLERANCE * step - due
        return None if late < 0 else due + (math.floor(late / step) + 1) * step

    def _is_full(self, num_bytes: int) -> bool:
        waiting_bytes = sum(len(picture.data) for picture in self._waiting)
        return len(self._waiting) >= self._max_in_flight or (
            waiting_bytes > 0 and waiting_bytes + num_bytes > MAX_WAITING_BYTES
        )


class ArrivingSource:
    """A video or sound as it is sent, through a decoder process of its own. What comes too fast waits in the socket."""

    def __init__(self, stream: Stream, decoders: LiveDecoders, decoder: LiveDecoder, seconds: float) -> None:
        """`seconds`: for which the stream may go on."""
        self.stream = stream
        self.num_received = 0
        """Bytes."""
        self.num_dropped = 0
        self.num_passed = 0
        self.end_seconds = math.inf
        """When the video or sound ends, in the stream's time; infinity while that is not known."""
        self._decoders = decoders
        self._decoder = decoder
        self._offset_seconds = stream.seconds
        self._encoded: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING_CHUNKS)
        self._decoded: asyncio.Queue[FrameChunk | WaveformChunk | ServiceError | None] = asyncio.Queue(MAX_CHUNK_FRAMES)
        deadline = asyncio.get_running_loop().time() + seconds
        self._tasks = [asyncio.create_task(self._feed()), asyncio.create_task(self._read(deadline))]
        self._ahead: FrameChunk | WaveformChunk | ServiceError | None = None
        self._is_ahead = self._is_closed = False

    @classmethod
    async def open(cls, stream: Stream, decoders: LiveDecoders, seconds: float) -> "ArrivingSource":
        """Raises Overloaded where no decoder can be had."""
        if stream.model.manifest.input.media == "audio":
            request = MediaRequest(waveforms=(stream.sound_spec(LIVE_CHUNK_SECONDS),), source="arriving")
        else:
            request = MediaRequest(frames=(stream.frame_spec(1),), source="arriving")
        return cls(stream, decoders, await decoders.open(request), seconds)

    async def push(self, data: bytes) -> None:
        """Takes more of the file; waits where what came before is still to be decoded."""
        if not self._is_closed:
            await self._encoded.put(data)
        self.num_received += len(data)

    async def end(self) -> None:
        await self._encoded.put(None)

    async def take(self) -> Taken | None:
        """What has been decoded, as much as one step takes; None at the end. Raises what decoding raises."""
        first = self._ahead if self._is_ahead else await self._decoded.get()
        self._is_ahead = False
        if isinstance(first, ServiceError):
            raise first
        if first is None:
            return None
        if isinstance(first, WaveformChunk):
            return Taken(self.stream, waveform=first.waveform)
        chunks = [first]
        while len(chunks) < MAX_CHUNK_FRAMES and not self._decoded.empty():
            more = self._decoded.get_nowait()
            if not isinstance(more, FrameChunk):
                self._ahead, self._is_ahead = more, True
                break
            chunks.append(more)
        return Taken(
            self.stream,
            frames=np.concatenate([chunk.frames for chunk in chunks]),
            times=np.concatenate([chunk.times for chunk in chunks]) + self._offset_seconds,
        )

    async def rewind(self, stream: Stream) -> None:
        raise MalformedRequest("Only a stream of pictures can be rewound: open another session with the state.")

    async def close(self) -> None:
        """Ends the decoder, lets go of what waits, and takes no more: a session may be kept for long after its end."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()  # with their tracebacks
        self._encoded, self._decoded = asyncio.Queue(), asyncio.Queue()
        await self._decoders.release(self._decoder)

    async def _feed(self) -> None:
        while (data := await self._encoded.get()) is not None:
            await self._decoder.feed(data)
        self._decoder.end()

    async def _read(self, deadline: float) -> None:
        try:
            events = self._decoder.events(deadline)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, FrameChunk | WaveformChunk):
                        await self._decoded.put(event)
                    elif isinstance(event, MediaSummary):
                        self.end_seconds = self._offset_seconds + event.duration_seconds
        except ServiceError as error:
            await self._decoded.put(error)
        else:
            await self._decoded.put(None)
