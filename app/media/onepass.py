"""The frames of a video at fixed rates from one pass over its packets, the first of them as soon as it is known.

A frame that no other refers to is left out where it is on display at no moment that is asked for; whether it is hangs
on when the next one is displayed, which is known a few packets later. Each frame that comes out is checked against its
packet, as for a plan (see `app.media.video`), and what is given back is the same.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.media.bitstream import CLEAN, DISPOSABLE, HEADERS, HIDDEN, LAYER_SHIFT, ODD, classifier, classify_packet
from app.media.clock import FileClock
from app.media.decoding import SurpriseError
from app.media.display import Display
from app.media.packets import demux
from app.media.probe import describe
from app.media.request import FrameChunk, FrameSpec, MediaInfo, MediaLimits, MediaRequest, Sampling
from app.media.scaling import displayed_size
from app.media.timeline import check_duration, last_duration

if TYPE_CHECKING:
    from av.packet import Packet

LOOK_AHEAD = 32
"""Packets. More than any decoder reorders (16 frames in H.264 and H.265), so that the next frame is nearly always
known. Where it is not, a frame is decoded that nobody asked for."""
MAX_KNOWN = 4 * LOOK_AHEAD


def can_read_in_one_pass(request: MediaRequest) -> bool:
    """Whether all frames of the request are at rates, and of the whole video."""
    return (
        all(spec.rate and not spec.clip_length for spec in request.frames)
        and request.start_seconds is None
        and request.end_seconds is None
    )


@dataclass(slots=True)
class VideoOutcome:
    """What reading the video came to."""

    first_seconds: float = 0.0
    """When the first frame is displayed, in the file's own time."""
    asked_seconds: float = 0.0
    sampling: Sampling = "exact"
    frames_decoded: int = 0
    frames_skipped: int = 0

    def add(self, other: "VideoOutcome") -> None:
        """After another pass over the same video."""
        self.first_seconds, self.asked_seconds, self.sampling = (
            other.first_seconds,
            other.asked_seconds,
            other.sampling,
        )
        self.frames_decoded += other.frames_decoded
        self.frames_skipped += other.frames_skipped


@dataclass(frozen=True, slots=True)
class _Read:
    """A packet, and what is known of it without decoding."""

    packet: "Packet[VideoStream]"
    flags: int
    pts: int


class OnePass:
    """Reads the frames of specs that have a rate alone."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        specs: Sequence[FrameSpec],
        limits: MediaLimits,
        num_given: list[int],
    ) -> None:
        """`num_given`: frames of each spec that were given back before; counted on here."""
        assert stream.time_base is not None
        self._container = container
        self._stream = stream
        self._limits = limits
        self._num_given = num_given
        self._time_base = stream.time_base
        aspect = stream.sample_aspect_ratio
        self._displays = [
            Display(number, spec, self._time_base, aspect, given)
            for number, (spec, given) in enumerate(zip(specs, num_given, strict=True))
        ]
        self._known: list[int] = []  # pts of the packets read lately, sorted
        self._last: list[int] = []  # the two largest
        self._last_duration: int | None = None  # of the largest
        self._layer = 0  # the highest temporal layer so far
        self._has_skipped = False
        self._fed: list[int] = []  # heap of pts whose frames have not come out
        self._origin: int | None = None
        self.outcome = VideoOutcome()
        """Complete when `read` has ended."""

    def read(self) -> Iterator[MediaInfo | FrameChunk]:
        """MediaInfo with what the header says, the chunks, and MediaInfo with what was found.

        Raises SurpriseError where the packets do not tell what comes out of the decoder.
        """
        if self._container.duration is not None:
            seconds = self._container.duration / av.time_base
            if seconds > self._limits.max_duration_seconds:  # whether that is true can be told without decoding
                raise SurpriseError
        size = (0, 0)
        for frame in self._frames():
            ticks = self._ticks(frame)
            if not self.outcome.frames_decoded:
                size = displayed_size(frame, self._stream.sample_aspect_ratio)
                yield describe(self._container, self._stream, size)
            self.outcome.frames_decoded += 1
            check_duration(float(ticks * self._time_base), self._limits)
            for display in self._displays:
                yield from self._counted(display.show(ticks, frame))
        if self._origin is None:
            raise SurpriseError
        times = np.array(self._last, np.int64)
        end = self._last[-1] + last_duration(times, self._last_duration, self._stream.average_rate, self._time_base)
        self.outcome.asked_seconds = duration_seconds = float((end - self._origin) * self._time_base)
        check_duration(duration_seconds, self._limits)
        for display in self._displays:
            yield from self._counted(display.finish(duration_seconds))
        num_frames = self.outcome.frames_decoded + self.outcome.frames_skipped
        yield describe(self._container, self._stream, size, duration_seconds, num_frames)

    def _counted(self, chunks: Iterable[FrameChunk]) -> Iterator[FrameChunk]:
        for chunk in chunks:
            self._num_given[chunk.spec] += len(chunk.frames)
            yield chunk

    def _frames(self) -> Iterator[VideoFrame]:
        stream = self._stream
        try:
            for read in self._ahead():
                if self._can_skip(read):
                    self.outcome.frames_skipped += 1
                    self._has_skipped = True
                    continue
                if not read.flags & HIDDEN:
                    heappush(self._fed, read.pts)
                yield from stream.decode(read.packet)
            yield from stream.decode(None)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise SurpriseError from error
        if self._fed:
            raise SurpriseError

    def _ahead(self) -> Iterator[_Read]:
        """Each packet once those that follow it have been looked at."""
        waiting: deque[_Read] = deque()
        for read in self._read():
            waiting.append(read)
            if len(waiting) > LOOK_AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _read(self) -> Iterator[_Read]:
        classify, is_first = classifier(self._stream), True
        clock, dts = FileClock(self._container, self._time_base), None
        for packet in demux(self._container, self._stream):
            flags = classify_packet(packet, classify)
            moved = not is_first and packet.has_sidedata("new_extradata")
            if flags & ODD or moved or packet.pts is None or packet.is_corrupt or (is_first and not flags & CLEAN):
                raise SurpriseError
            is_first = False
            if packet.dts is not None:
                if dts is not None and clock.is_set_anew(dts, packet.dts):
                    raise SurpriseError
                dts = packet.dts
            if packet.is_discard:  # before the start of an edit list: decoded, never displayed
                flags |= HIDDEN
            layer = flags >> LAYER_SHIFT
            if layer > self._layer and self._has_skipped:  # it may refer to what was left out
                raise SurpriseError
            self._layer = max(self._layer, layer)
            if not flags & HIDDEN:
                self._note(packet.pts, packet.duration)
            yield _Read(packet, flags, packet.pts)

    def _note(self, pts: int, duration: int | None) -> None:
        insort(self._known, pts)
        if len(self._known) > MAX_KNOWN:
            del self._known[:LOOK_AHEAD]
        if not self._last or pts > self._last[-1]:
            self._last = [*self._last[-1:], pts]
            self._last_duration = duration
        elif len(self._last) == 1 or pts > self._last[0]:
            self._last = [pts, self._last[-1]]

    def _can_skip(self, read: _Read) -> bool:
        is_disposable = read.flags & DISPOSABLE and read.flags >> LAYER_SHIFT == self._layer
        if not is_disposable or read.flags & (HEADERS | HIDDEN) or self._origin is None:
            return False
        after = bisect_right(self._known, read.pts)
        if after == len(self._known):
            return False
        ticks, next_ticks = read.pts - self._origin, self._known[after] - self._origin
        return not any(display.wants(ticks, next_ticks) for display in self._displays)

    def _ticks(self, frame: VideoFrame) -> int:
        """Since the first frame. Raises SurpriseError for a frame that is not the next one due."""
        if frame.pts is None or frame.is_corrupt or not self._fed or heappop(self._fed) != frame.pts:
            raise SurpriseError
        if self._origin is None:
            self._origin = frame.pts
            self.outcome.first_seconds = float(frame.pts * self._time_base)
        if frame.pts < self._origin or (self._fed and self._fed[0] == frame.pts):
            raise SurpriseError
        return frame.pts - self._origin
