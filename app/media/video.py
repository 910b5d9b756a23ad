"""The frames that a request asks for, all of its sizes from one decode.

Frames at a rate alone come from one pass over a large file (`app.media.onepass`). Otherwise, or where that pass meets a
surprise, only what the wanted frames need is decoded (`app.media.planning`): by one decoder, or by several at once
(`app.media.groups`). Each frame that comes out is checked against that plan; at the first surprise (a packet that does
not decode, a time that no packet announced) the file is decoded in full, once for the times and once for the frames.
"""

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from threading import Lock
from typing import BinaryIO

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.errors import ServiceError
from app.media.decoding import SurpriseError, decode_all, decode_planned, decode_times
from app.media.frames import ChunkJoiner, FrameCollector
from app.media.groups import AtOnceError, GroupDecoder, decode_at_once
from app.media.onepass import OnePass, VideoOutcome, can_read_in_one_pass
from app.media.packets import SMALL_BYTES
from app.media.planning import VideoPlan, plan_video
from app.media.probe import Readable, describe, file_size, open_video
from app.media.request import FrameChunk, MediaInfo, MediaLimits, MediaRequest
from app.media.scaling import displayed_size
from app.media.shared_file import SharedFile
from app.media.timeline import Choice, Pick, Timeline, choose_frames

_MAX_HELD_BYTES = 32 << 20
"""Spread frames are held back until the plan has proved right; where they take more, the file is decoded in full."""

_STRICT = {"err_detect": "explode"}
"""What does not decode is not concealed."""
_THREADS_PER_CORE = 2
"""Of a decoder's own: they wait for each other. On two cores four are up to 1.4 times as fast as two."""


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
        with open_video(self._file, self._limits, self._options) as (container, stream):
            one_pass = OnePass(container, stream, self._request.frames, self._limits, self._given)
            try:
                yield from one_pass.read()
            finally:
                self.outcome = one_pass.outcome

    def _read_planned(self) -> Iterator[MediaInfo | FrameChunk]:
        """Decode what is needed and no more. Damage that a decoder would conceal is an error here."""
        if sum(spec.clip_length * spec.width * spec.height * 3 for spec in self._request.frames) > _MAX_HELD_BYTES:
            raise SurpriseError
        planned = plan_video(self._file, self._request, self._limits, self._given, self._options)
        with planned as (container, stream, plan):
            self._note(plan.choice)
            if plan.groups:
                items = self._read_groups(plan)
            else:
                frames = decode_planned(plan.packets(container, stream), stream, plan.decoding, plan.timeline)
                items = self._collect(container, stream, plan.timeline, plan.choice.picks, frames)
            yield from self._hold(items)
        self.outcome.frames_skipped = len(plan.timeline.times) - len(plan.decoding.produced)

    @property
    def _options(self) -> dict[str, str]:
        """Of a decoder that is alone at work."""
        cores = self._request.cores
        threads = {"threads": str(_THREADS_PER_CORE * cores), "thread_type": "frame"} if cores > 1 else {}
        return _STRICT | threads

    def _read_groups(self, plan: VideoPlan) -> Iterator[MediaInfo | FrameChunk]:
        """Decode the groups of the plan at once. Raises AtOnceError, whatever is wrong, and MemoryError."""
        try:
            yield from self._decode_groups(plan)
        except (SurpriseError, ServiceError, RuntimeError) as error:
            raise AtOnceError from error

    def _decode_groups(self, plan: VideoPlan) -> Iterator[MediaInfo | FrameChunk]:
        with ExitStack() as opened:
            decoders, lock = [], Lock()
            for _ in range(plan.num_decoders):
                shared = SharedFile(self._file, lock)
                container, own = opened.enter_context(open_video(shared, self._limits, _STRICT, probe=plan.is_probed))
                packets = plan.packets(container, own)
                decoders.append(GroupDecoder(own, packets, plan.timeline, self._request.frames))
            joiners = [ChunkJoiner(spec) for spec in self._request.frames]
            for group in opened.enter_context(closing(decode_at_once(plan.groups, decoders))):
                self.outcome.frames_decoded += group.num_decoded
                yield from self._describe(container, own, group.look[0], plan.timeline)
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
        with open_video(self._file, self._limits) as (container, stream):
            timeline = decode_times(container, stream)
        self.outcome.frames_decoded += len(timeline.times)
        choice = choose_frames(timeline, self._request, self._limits)
        self._note(choice)
        last = max(int(pick.indices[-1]) for pick in choice.picks)
        with open_video(self._file, self._limits) as (container, stream):
            frames = islice(enumerate(decode_all(container, stream)), last + 1)
            yield from self._collect(container, stream, timeline, choice.picks, frames)

    def _note(self, choice: Choice) -> None:
        self.outcome.sampling = choice.sampling
        self.outcome.first_seconds = choice.first_seconds
        self.outcome.asked_seconds = choice.asked_seconds

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
