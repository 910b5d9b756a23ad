"""The frames that a request asks for, all of its sizes from one decode.

Frames at a rate alone come from one pass over a large file (`app.media.onepass`). Otherwise, or where that pass meets a
surprise, the times of all frames are read from the packets first, so that only what the wanted frames need is decoded:
by one decoder, or by several at once (`app.media.groups`). Each frame that comes out is checked against that plan; at
the first surprise (a packet that does not decode, a time that no packet announced) the file is decoded in full, once
for the times and once for the frames.
"""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from threading import Lock
from typing import BinaryIO

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from app.errors import ServiceError
from app.media.decoding import SurpriseError, decode_all, decode_planned, decode_times
from app.media.frames import ChunkJoiner, FrameCollector
from app.media.groups import AtOnceError, Group, GroupDecoder, decode_at_once, plan_at_once
from app.media.onepass import OnePass, VideoOutcome, can_read_in_one_pass
from app.media.packets import SMALL_BYTES, Plan, demux, plan_decoding, read_packets
from app.media.probe import Readable, describe, file_size, only_stream, open_media
from app.media.request import FrameChunk, MediaInfo, MediaLimits, MediaRequest
from app.media.scaling import displayed_size
from app.media.shared_file import SharedFile
from app.media.timeline import Pick, Timeline, check_duration, part_of, pick_frames

_MAX_HELD_BYTES = 32 << 20
"""Spread frames are held back until the plan has proved right; where they take more, the file is decoded in full."""

_STRICT = {"err_detect": "explode"}
"""What does not decode is not concealed."""
_THREADS_PER_CORE = 2
"""Of a decoder's own: they wait for each other. On two cores four are up to 1.4 times as fast as two."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """What to decode of a file."""

    timeline: Timeline
    picks: list[Pick]
    """The frames wanted, by each spec."""
    plan: Plan
    groups: list[Group]
    """Of the plan, where several are to be decoded at once; else none."""
    kept: "list[Packet[VideoStream]] | None"
    """All packets, unless they are to be read again."""
    is_probed: bool
    """Whether the file has to be probed, whenever it is opened again."""

    def packets(self, container: InputContainer, stream: VideoStream) -> "Iterable[Packet[VideoStream]]":
        """All packets, of which a file that was just opened gives those that were not kept."""
        return self.kept if self.kept is not None else demux(container, stream)


class VideoReader:
    """Reads the frames of one request. `outcome` is complete when `read` has ended."""

    def __init__(
        self,
        file: BinaryIO | Readable,
        request: MediaRequest,
        limits: MediaLimits,
        num_given: Sequence[int] | None = None,
    ) -> None:
        """`num_given`: frames of each spec with a rate that were given back before, and are not wanted again."""
        self._file = file
        self._request = request
        self._limits = limits
        self._given = list(num_given or [0] * len(request.frames))
        self._described = False
        self.outcome = VideoOutcome()

    def read(self) -> Iterator[MediaInfo | FrameChunk]:
        """MediaInfo, then the chunks of all specs. Raises InvalidMedia where there is no picture."""
        attempts = [self._read_all, self._read_planned, self._read_in_one_pass]
        while attempts:
            try:
                yield from attempts[-1]()
                return
            except SurpriseError:
                attempts.pop()
                self._described = False  # what was said came from a plan that does not hold
                continue
            except (MemoryError, AtOnceError):
                if self._request.cores == 1:
                    raise
            self._request = replace(self._request, cores=1)  # what is answered does not hang on idle cores
            gc.collect()  # PyAV's objects refer to each other: until then they hold the memory of all decoders

    def _read_in_one_pass(self) -> Iterator[MediaInfo | FrameChunk]:
        """Give back each frame as soon as it is known, with memory that does not grow with the video.

        For a small file all packets are known at once, and a plan is better: it also spares what follows the last
        wanted frame of each group of pictures, a fifth of the CPU time for groups of a second with four such frames.
        """
        if not can_read_in_one_pass(self._request) or file_size(self._file) <= SMALL_BYTES:
            raise SurpriseError
        with self._open(_STRICT | self._threads) as (container, stream):
            one_pass = OnePass(container, stream, self._request.frames, self._limits, self._given)
            try:
                yield from one_pass.read()
            finally:
                self.outcome = one_pass.outcome

    def _read_planned(self) -> Iterator[MediaInfo | FrameChunk]:
        """Decode what is needed and no more. Damage that a decoder would conceal is an error here."""
        if sum(spec.clip_length * spec.width * spec.height * 3 for spec in self._request.frames) > _MAX_HELD_BYTES:
            raise SurpriseError
        with ExitStack() as opened:
            container, stream, planned = self._plan(opened)
            if planned.groups:
                items = self._read_groups(planned, self._num_decoders(stream))
            else:
                if planned.kept is None:
                    opened.close()
                    options = _STRICT | self._threads
                    container, stream = opened.enter_context(self._open(options, probe=planned.is_probed))
                packets = planned.packets(container, stream)
                frames = decode_planned(packets, stream, planned.plan, planned.timeline)
                items = self._collect(container, stream, planned.timeline, planned.picks, frames)
            yield from self._hold(items)
        self.outcome.frames_skipped = len(planned.timeline.times) - len(planned.plan.produced)

    @property
    def _threads(self) -> dict[str, str]:
        """Of a decoder that is alone at work."""
        cores = self._request.cores
        return {"threads": str(_THREADS_PER_CORE * cores), "thread_type": "frame"} if cores > 1 else {}

    def _plan(self, opened: ExitStack) -> tuple[InputContainer, VideoStream, _Planned]:
        """What to decode, of a file that is left open in `opened`.

        The file is probed only where that is needed to choose a stream, to know the shape of its pixels or how far the
        decoder has to look ahead. The table of packets, 180,000 in two hours of video, is not kept after this.
        """
        for probe in (False, True):
            container, stream = opened.enter_context(self._open(_STRICT | self._threads, probe=probe))
            table = read_packets(container, stream)
            if table is not None and table.has_lead:
                table = table.without_lead(self._first_pts())
            if table is None:
                break
            picks = self._pick(table.timeline, table.key_frames)
            plan = plan_decoding(table, np.unique(np.concatenate([pick.indices for pick in picks])))
            is_alone = len(container.streams.video) == 1
            has_shape = stream.sample_aspect_ratio is not None or plan.feed[0]  # else the first frame tells
            looks_ahead = stream.codec_context.has_b_frames or not table.is_reordered
            if probe or (is_alone and has_shape and looks_ahead):
                awaited = [Pick(pick.indices[n:], pick.moments[n:]) for pick, n in zip(picks, self._given, strict=True)]
                groups = plan_at_once(plan, table, self._request.frames, awaited, self._num_decoders(stream))
                planned = _Planned(table.timeline, picks, plan, groups, table.kept, probe)
                return container, stream, planned
            opened.close()
        raise SurpriseError

    def _first_pts(self) -> int | None:
        """Of the first frame that decodes. Raises InvalidMedia where none does."""
        with self._open() as (container, stream):
            return next(decode_all(container, stream)).pts

    def _num_decoders(self, stream: VideoStream) -> int:
        """That may be at work at once: together their pictures have no more pixels than one picture may have."""
        pixels = max(1, stream.codec_context.width * stream.codec_context.height)
        return min(self._request.cores, self._limits.max_pixels // pixels)

    def _read_groups(self, planned: _Planned, num_decoders: int) -> Iterator[MediaInfo | FrameChunk]:
        """Decode the groups of the plan at once. Raises AtOnceError, whatever is wrong, and MemoryError."""
        try:
            yield from self._decode_groups(planned, num_decoders)
        except (SurpriseError, ServiceError, RuntimeError) as error:
            raise AtOnceError from error

    def _decode_groups(self, planned: _Planned, num_decoders: int) -> Iterator[MediaInfo | FrameChunk]:
        with ExitStack() as opened:
            decoders, lock = [], Lock()
            for _ in range(num_decoders):
                container, own = opened.enter_context(
                    self._open(_STRICT, probe=planned.is_probed, file=SharedFile(self._file, lock))
                )
                packets = planned.packets(container, own)
                decoders.append(GroupDecoder(own, packets, planned.timeline, self._request.frames))
            joiners = [ChunkJoiner(spec) for spec in self._request.frames]
            for group in opened.enter_context(closing(decode_at_once(planned.groups, decoders))):
                self.outcome.frames_decoded += group.num_decoded
                yield from self._describe(container, own, group.look[0], planned.timeline)
                for chunk in group.chunks:
                    yield from self._counted(joiners[chunk.spec].add(chunk))
            for joiner in joiners:
                yield from self._counted(joiner.finish())

    def _hold(self, items: Iterator[MediaInfo | FrameChunk]) -> Iterator[MediaInfo | FrameChunk]:
        """The items, but frames that are spread over the video only at the end: their choice depends on all of it."""
        held: list[FrameChunk] = []
        held_bytes = 0
        for item in items:
            if isinstance(item, FrameChunk) and self._request.frames[item.spec].clip_length:
                held.append(item)
                held_bytes += item.frames.nbytes
                if held_bytes > _MAX_HELD_BYTES:
                    raise SurpriseError
            else:
                yield item
        yield from held

    def _read_all(self) -> Iterator[MediaInfo | FrameChunk]:
        with self._open() as (container, stream):
            timeline = decode_times(container, stream)
        self.outcome.frames_decoded += len(timeline.times)
        picks = self._pick(timeline, None)
        last = max(int(pick.indices[-1]) for pick in picks)
        with self._open() as (container, stream):
            frames = islice(enumerate(decode_all(container, stream)), last + 1)
            yield from self._collect(container, stream, timeline, picks, frames)

    def _pick(self, timeline: Timeline, key_frames: NDArray[np.int32] | None) -> list[Pick]:
        check_duration(timeline.duration_seconds, self._limits)
        part = part_of(timeline, self._request)
        longest = max(spec.clip_length for spec in self._request.frames)
        fast = None
        if self._request.sampling == "fast" and key_frames is not None and longest:
            inside = key_frames[(key_frames >= part.first) & (key_frames <= part.last)]
            fast = inside if 2 * len(inside) >= longest else None
        self.outcome.sampling = "exact" if fast is None else "fast"
        self.outcome.first_seconds = float(int(timeline.times[0]) * timeline.time_base)
        self.outcome.asked_seconds = part.end_seconds - part.start_seconds
        return [pick_frames(timeline, part, spec, fast) for spec in self._request.frames]

    def _collect(
        self,
        container: InputContainer,
        stream: VideoStream,
        timeline: Timeline,
        picks: list[Pick],
        frames: Iterator[tuple[int, VideoFrame]],
    ) -> Iterator[MediaInfo | FrameChunk]:
        """What the consumers get of `frames` (timeline index, frame)."""
        aspect = stream.sample_aspect_ratio
        asked = zip(self._request.frames, picks, self._given, strict=True)
        collectors = [FrameCollector(number, spec, pick, given) for number, (spec, pick, given) in enumerate(asked)]
        for index, frame in frames:
            self.outcome.frames_decoded += 1
            aspect = aspect or stream.codec_context.sample_aspect_ratio or Fraction(1)
            if not self._described:
                yield from self._describe(container, stream, displayed_size(frame, aspect), timeline)
            for collector in collectors:
                yield from self._counted(collector.add(index, frame, aspect))

    def _describe(
        self, container: InputContainer, stream: VideoStream, size: tuple[int, int], timeline: Timeline
    ) -> Iterator[MediaInfo]:
        if not self._described:
            self._described = True
            yield describe(container, stream, size, timeline.duration_seconds, len(timeline.times))

    def _counted(self, chunks: Iterable[FrameChunk]) -> Iterator[FrameChunk]:
        for chunk in chunks:
            if not self._request.frames[chunk.spec].clip_length:
                self._given[chunk.spec] += len(chunk.frames)
            yield chunk

    @contextmanager
    def _open(
        self, options: Mapping[str, str] | None = None, *, probe: bool = True, file: SharedFile | None = None
    ) -> Iterator[tuple[InputContainer, VideoStream]]:
        """`options`: of the decoder."""
        with open_media(file or self._file, self._limits, probe=probe) as container:
            yield container, only_stream(container, self._limits, **(options or {}))
