"""Pictures of all streams through the sandbox: what waits at the same time shares a job.

A job costs the service half a millisecond however many pictures it has; and streams whose pictures come back together
step together.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineExceeded, InvalidMedia, ServiceError, UnsupportedMedia
from app.media.pictures import pack_pictures
from app.media.request import FrameChunk, FrameSpec, MediaRequest
from app.media.sandbox import DecoderPool

MAX_JOB_PICTURES = 32

Decoded = list[NDArray[np.uint8] | ServiceError]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    pictures: Sequence[bytes]
    spec: FrameSpec
    deadline: float
    answer: "asyncio.Future[Decoded]"


class PictureDecoder:
    """Decodes pictures, in as many jobs at once as its pool has workers."""

    def __init__(self, pool: DecoderPool) -> None:
        self._pool = pool
        self._waiting: list[_Waiting] = []
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def restarts(self) -> Counter[str]:
        """Its workers that were replaced, by reason."""
        return self._pool.restarts

    @property
    def num_missing(self) -> int:
        """Its workers that were lost and could not be replaced so far."""
        return self._pool.num_missing

    async def decode(self, pictures: Sequence[bytes], spec: FrameSpec, deadline: float) -> Decoded:
        """(H, W, 3) of each picture, or why there is none. Raises DeadlineExceeded."""
        waiting = _Waiting(pictures, spec, deadline, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._begin()
        try:
            async with asyncio.timeout_at(deadline):
                return await waiting.answer
        except TimeoutError as error:
            raise DeadlineExceeded("The pictures were not decoded by the deadline.") from error

    def _begin(self) -> None:
        """Begins jobs for what waits, while there are workers."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        while self._waiting and len(self._jobs) < self._pool.num_workers:
            first = self._waiting[0]
            batch, room = [first], MAX_JOB_PICTURES - len(first.pictures)
            has_size = first.spec.width > 0  # else the first picture of a job gives all of them its own
            for other in self._waiting[1:] if has_size else ():
                if other.spec == first.spec and len(other.pictures) <= room:
                    batch.append(other)
                    room -= len(other.pictures)
            taken = set(batch)
            self._waiting = [waiting for waiting in self._waiting if waiting not in taken]
            job = asyncio.create_task(self._run(batch))
            self._jobs.add(job)
            job.add_done_callback(self._end)

    def _end(self, job: "asyncio.Task[None]") -> None:
        self._jobs.discard(job)
        self._begin()

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        """Answers the whole batch; where one picture of it is bad, each picture for itself."""
        pictures = [picture for waiting in batch for picture in waiting.pictures]
        spec, deadline = batch[0].spec, max(waiting.deadline for waiting in batch)
        try:
            decoded = await self._decode(pictures, spec, deadline)
        except DeadlineExceeded:
            return  # `decode` says so, to each at its own
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the edge of the task: who waits must not wait for nothing
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        for waiting in batch:
            mine, decoded = decoded[: len(waiting.pictures)], decoded[len(waiting.pictures) :]
            if not waiting.answer.done():
                waiting.answer.set_result(mine)

    async def _decode(self, pictures: Sequence[bytes], spec: FrameSpec, deadline: float) -> Decoded:
        try:
            return [*await self._job(pictures, spec, deadline)]
        except (InvalidMedia, UnsupportedMedia) as error:
            if len(pictures) == 1:
                return [error]
        return [(await self._decode([picture], spec, deadline))[0] for picture in pictures]

    async def _job(self, pictures: Sequence[bytes], spec: FrameSpec, deadline: float) -> list[NDArray[np.uint8]]:
        descriptor = os.memfd_create("pictures")
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(pack_pictures(pictures))
            request = MediaRequest(frames=(spec,), source="pictures", num_pictures=len(pictures))
            events = self._pool.read(descriptor, request, deadline)
            async with aclosing(events):
                return [frame async for event in events if isinstance(event, FrameChunk) for frame in event.frames]
        finally:
            os.close(descriptor)
