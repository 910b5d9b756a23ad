"""A video cut, while it is decoded, into parts that a describer can be shown at once."""

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from math import ceil

import numpy as np
from numpy.typing import NDArray

from app.media.request import FrameChunk, FrameSpec
from app.pipelines.shots import ShotFinder

SHORTEST_SHOT_SECONDS = 0.5
"""Joins that are closer to the one before are passed over."""

OnPart = Callable[[NDArray[np.uint8], float, float], Awaitable[None]]
"""With the frames (T, H, W, 3) of a part, and where it begins and ends, in seconds. The end is exclusive."""


class Parts:
    """Frames at a rate -> parts of at most `limit` frames, in order, without gaps: one for each shot, or several.

    At most twice `limit` frames wait, beside those that were decoded while shots were looked for in them.
    """

    def __init__(self, spec: FrameSpec, limit: int, on_part: OnPart, shots: ShotFinder | None = None) -> None:
        """Without `shots` the whole video is taken for one."""
        self.spec = spec
        self.limit = limit
        self.on_part = on_part
        self.shots = shots
        self._frames: list[NDArray[np.uint8]] = []  # (H, W, 3) each
        self._times: list[float] = []
        self._pending: asyncio.Task[None] | None = None

    async def add(self, chunk: FrameChunk) -> None:
        self._frames.extend(chunk.frames)
        self._times.extend(chunk.times.tolist())
        known = float("inf") if self.shots is None else self.shots.known_seconds
        while length := self._next_length(known, last=False):
            await self._take(length)

    async def finish(self) -> None:
        """Call it after the shots have finished."""
        while length := self._next_length(float("inf"), last=True):
            await self._take(length)
        if self._pending is not None:
            await self._pending

    def abandon(self) -> None:
        if self._pending is not None:
            self._pending.cancel()

    def _next_length(self, known_seconds: float, *, last: bool) -> int:
        """Frames of the next part; 0 while that cannot be said."""
        if not self._times:
            return 0
        joins = [] if self.shots is None else self.shots.joins
        join = next((join for join in joins if join >= self._times[0] + SHORTEST_SHOT_SECONDS), float("inf"))
        in_shot = max(1, bisect_left(self._times, join - 0.5 / self.spec.rate))  # frames on display before it
        if last or (in_shot < len(self._times) and join <= known_seconds):
            return ceil(in_shot / ceil(in_shot / self.limit))  # the parts of one shot are alike long
        certain = bisect_left(self._times, known_seconds)
        return self.limit if min(certain, in_shot) >= 2 * self.limit else 0

    async def _take(self, length: int) -> None:
        """Hands on the next part once the one before it is done with."""
        if self._pending is not None:
            await self._pending
        frames = np.stack(self._frames[:length])
        start = self._times[0]
        end = self._times[length] if length < len(self._times) else self._times[-1] + 1 / self.spec.rate
        del self._frames[:length], self._times[:length]
        self._pending = asyncio.ensure_future(self.on_part(frames, start, end))
