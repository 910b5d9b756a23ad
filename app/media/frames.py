"""Turns decoded frames into the FrameChunks that a request asks for, each frame scaled once for each consumer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from app.media.request import FrameChunk, FrameSpec
from app.media.scaling import FrameScaler
from app.media.timeline import Pick

MAX_CHUNK_BYTES = 16 << 20
"""Most bytes of the frames in one chunk, unless a single frame is larger. A chunk of large frames is shorter than
`chunk_length`, so that memory does not depend on the request."""


class FrameCollector:
    """Collects the frames of one pick into chunks."""

    def __init__(self, number: int, spec: FrameSpec, pick: Pick, skip: int = 0) -> None:
        """`number`: of the spec in the request. `skip`: frames of the pick that were given back before."""
        self._number = number
        self._spec = spec
        self._pick = pick
        self._next = skip  # position in the pick of the frame that is awaited
        self._chunk_start = skip
        self._scaler: FrameScaler | None = None
        self._frames: NDArray[np.uint8] | None = None

    @property
    def complete(self) -> bool:
        return self._next == len(self._pick.indices)

    def add(self, index: int, frame: VideoFrame, aspect: Fraction | None) -> Iterator[FrameChunk]:
        """Take frame `index` of the timeline as often as it is wanted; give back each chunk that it fills."""
        while not self.complete and self._pick.indices[self._next] == index:
            if self._scaler is None:
                self._scaler = FrameScaler(self._spec, frame, aspect)
            if self._frames is None:
                self._frames = self._empty_chunk(self._scaler.size)
            at = self._next - self._chunk_start
            if at and self._pick.indices[self._next - 1] == index:
                self._frames[at] = self._frames[at - 1]
            else:
                self._scaler.scale(frame, self._frames[at])
            self._next += 1
            if at + 1 == len(self._frames):
                yield self._give_back()

    def _empty_chunk(self, size: tuple[int, int]) -> NDArray[np.uint8]:
        width, height = size
        length = _chunk_length(self._spec, width * height * 3)
        return np.empty((min(length, len(self._pick.indices) - self._next), height, width, 3), np.uint8)

    def _give_back(self) -> FrameChunk:
        assert self._frames is not None
        moments = self._pick.moments[self._chunk_start : self._next]
        chunk = FrameChunk(self._number, self._frames, moments)
        self._frames = None
        self._chunk_start = self._next
        return chunk


class ChunkJoiner:
    """Joins short chunks of one spec to those that a single FrameCollector would have given."""

    def __init__(self, spec: FrameSpec) -> None:
        self._spec = spec
        self._waiting: list[FrameChunk] = []

    def add(self, chunk: FrameChunk) -> Iterator[FrameChunk]:
        """The chunks that `chunk` completes; all frames have one size."""
        self._waiting.append(chunk)
        length = _chunk_length(self._spec, chunk.frames[0].nbytes)
        while sum(len(one.frames) for one in self._waiting) >= length:
            joined = _join(self._waiting)
            self._waiting = []
            if len(joined.frames) > length:
                self._waiting = [replace(joined, frames=joined.frames[length:], times=joined.times[length:])]
            yield replace(joined, frames=joined.frames[:length], times=joined.times[:length])

    def finish(self) -> Iterator[FrameChunk]:
        """What is left, as the last chunk."""
        if self._waiting:
            yield _join(self._waiting)


def _join(chunks: Sequence[FrameChunk]) -> FrameChunk:
    frames = np.concatenate([chunk.frames for chunk in chunks])
    return replace(chunks[0], frames=frames, times=np.concatenate([chunk.times for chunk in chunks]))


def _chunk_length(spec: FrameSpec, frame_bytes: int) -> int:
    return min(spec.chunk_length, max(1, MAX_CHUNK_BYTES // frame_bytes))
