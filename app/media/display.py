"""Frames at a fixed rate from frames as they come: what is on display at 0, 1/rate, 2/rate … seconds.

Of the frames that follow, nothing has to be known except when the next one is displayed.
"""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from app.media.frames import MAX_CHUNK_BYTES
from app.media.request import FrameChunk, FrameSpec
from app.media.sampling import moments, rounding
from app.media.scaling import FrameScaler


class Display:
    """The frames of one spec that has a rate alone, in chunks, the same as `app.media.timeline` picks of all times."""

    def __init__(
        self, number: int, spec: FrameSpec, time_base: Fraction, aspect: Fraction | None, num_given: int = 0
    ) -> None:
        """`num_given`: frames at the beginning that are not wanted (again)."""
        self._number = number
        self._spec = spec
        self._aspect = aspect
        self._num_given = num_given
        first, each = rounding(time_base) / time_base, 1 / Fraction(spec.rate) / time_base
        self._scale = first.denominator * each.denominator
        self._first, self._each = int(first * self._scale), int(each * self._scale)
        self._next = 0  # the moment that is awaited
        self._shown: VideoFrame | None = None
        self._scaled: NDArray[np.uint8] | None = None  # `_shown`, once it was wanted
        self._scaler: FrameScaler | None = None
        self._chunk: list[NDArray[np.uint8]] = []

    def wants(self, ticks: int, next_ticks: int) -> bool:
        """Whether a frame displayed from `ticks` to before `next_ticks`, since the first one, is given to anybody."""
        moment = max(0, -(-(ticks * self._scale - self._first) // self._each))
        return self._latest_ticks(moment) < next_ticks

    def show(self, ticks: int, frame: VideoFrame) -> Iterator[FrameChunk]:
        """Displays `frame` from `ticks` on, which never fall; gives back the chunk that what came before it fills."""
        while self._shown is not None and self._latest_ticks(self._next) < ticks:
            yield from self._give(self._shown)
        self._shown, self._scaled = frame, None

    def finish(self, duration_seconds: float) -> Iterator[FrameChunk]:
        """The last frame stays until `duration_seconds`."""
        count = moments(0.0, duration_seconds, self._spec.rate)
        while self._shown is not None and self._next < count:
            yield from self._give(self._shown)
        if self._chunk:
            yield self._give_back()

    def _latest_ticks(self, moment: int) -> int:
        """A frame is on display at `moment` if it appears by then, at the latest."""
        return (self._first + moment * self._each) // self._scale

    def _give(self, frame: VideoFrame) -> Iterator[FrameChunk]:
        self._next += 1
        if self._next <= self._num_given:
            return
        if self._scaler is None:
            self._scaler = FrameScaler(self._spec, frame, self._aspect)
        if self._scaled is None:
            width, height = self._scaler.size
            self._scaled = np.empty((height, width, 3), np.uint8)
            self._scaler.scale(frame, self._scaled)
        self._chunk.append(self._scaled)
        length = min(self._spec.chunk_length, max(1, MAX_CHUNK_BYTES // self._scaled.nbytes))
        if len(self._chunk) == length:
            yield self._give_back()

    def _give_back(self) -> FrameChunk:
        times = np.arange(self._next - len(self._chunk), self._next) / self._spec.rate
        chunk = FrameChunk(self._number, np.stack(self._chunk), times)
        self._chunk = []
        return chunk
