"""Decodes files of unknown origin in worker processes, so that none of them can harm the service.

Workers are forked from a fork server that has av and numpy but no torch. A worker that crashes, hangs or answers
nonsense costs its own request only: the request is tried once more on another worker, and the worker is replaced.
"""

import asyncio
import logging
import math
import multiprocessing
from collections import Counter
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from multiprocessing import forkserver, util

from app.cores import cores_for_one
from app.errors import DeadlineExceeded, InvalidMedia, NotReady, ServiceError
from app.media.confinement import LAYERS, Layer
from app.media.request import MediaEvent, MediaInfo, MediaLimits, MediaRequest, MediaSummary
from app.media.worker_process import WorkerLostError, WorkerProcess

REPLACED = ("recycled", "crashed", "stopped", "deadline", "cancelled", "memory")
"""Why workers are."""
JOBS_PER_WORKER = 300
"""Files after which a worker is replaced, so that nothing a library leaks adds up."""
_MAX_CRASHES = 2
"""Of workers under one file; the first may have been by chance."""
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_CROWD_SECONDS = 0.25
"""After which requests that came together are no crowd any more. Those whose answers are being made, or whose next file
is on its way, hold no worker for a moment: cores that seem idle then are wanted again at once."""

logger = logging.getLogger(__name__)


class DecoderPool:
    """A fixed number of decoder workers, each with one job at a time."""

    def __init__(
        self,
        num_workers: int = 2,
        worker_memory_bytes: int = 1 << 30,
        worker_cpu_seconds: int = 5 * 3600,
        jobs_per_worker: int = JOBS_PER_WORKER,
        limits: MediaLimits | None = None,
        num_spares: int = 0,
    ) -> None:
        """`worker_cpu_seconds`: a backstop behind every deadline; longer than any job may take. A worker that has spent
        as much in all its jobs is replaced after the last of them, before it ends by that in the middle of another.

        `num_spares`: workers beyond those that are at work at once; they take the place of one that is lost.
        """
        self.num_workers = num_workers
        """Processes, of which each decodes one file at a time on one core."""
        self.waiting_requests = 0
        """Requests that no worker has taken yet."""
        self.restarts: Counter[str] = Counter()
        """Workers replaced, by reason: those of REPLACED that there were."""
        self.num_missing = 0
        """Workers lost that could not be replaced so far; each is tried again every second."""
        self.missing_layers: tuple[Layer, ...] = ()
        """What should confine the workers and does not, by the newest of them; known once they are started."""
        self._worker_memory_bytes = worker_memory_bytes
        self._worker_cpu_seconds = worker_cpu_seconds
        self._jobs_per_worker = jobs_per_worker
        self._limits = limits or MediaLimits()
        self._is_closed = False
        self._num_spares = num_spares
        self._places = asyncio.Semaphore(num_workers)
        self._num_busy = 0
        self._crowd_ends = -math.inf
        self._idle: asyncio.LifoQueue[WorkerProcess] = asyncio.LifoQueue()  # so that a spare stays as small as it is
        self._workers: set[WorkerProcess] = set()
        self._replacements: set[asyncio.Task[None]] = set()
        self._looks: asyncio.Task[None] | None = None
        self._starter = ThreadPoolExecutor(1, "decoder-pool")  # forking blocks; one at a time is safe

    @property
    def idle_workers(self) -> int:
        """Jobs that could begin at once."""
        return min(self._idle.qsize(), self.num_workers - self._num_busy)

    @property
    def living_workers(self) -> int:
        """Of `num_workers`, those that have not ended; a spare stands in for one that has."""
        return min(self.num_workers, sum(worker.is_alive for worker in self._workers))

    async def start(self) -> None:
        """Start all workers; they can be given jobs when this returns."""
        await asyncio.gather(*(self._start_worker() for _ in range(self.num_workers + self._num_spares)))
        if self.missing_layers:
            logger.warning("decoder workers run without %s", ", ".join(self.missing_layers))
        self._looks = asyncio.create_task(self._look_after_workers())

    async def close(self) -> None:
        """End all workers, also those at work."""
        self._is_closed = True
        if self._looks is not None:
            self._looks.cancel()
        await asyncio.gather(*self._replacements)  # not cancelled: a process that is being forked would be lost
        while self._workers:
            worker = self._workers.pop()
            worker.kill()
            await worker.bury(self._starter)
        await asyncio.get_running_loop().run_in_executor(self._starter, _end_fork_server)
        self._starter.shutdown()

    async def read(
        self, fd: int, request: MediaRequest, deadline: float, growth: int | None = None
    ) -> AsyncGenerator[MediaEvent]:
        """MediaInfo, then chunks, then MediaSummary, for the file behind the open descriptor `fd`.

        With `growth`, the file is still being written to, and that pipe tells of it (`GrowingFile`).

        `deadline` is a time of the running loop's clock. Raises UnsupportedMedia, InvalidMedia, MediaTooLarge or
        DeadlineExceeded. Closing the iterator ends the job.
        """
        began = asyncio.get_running_loop().time()
        fds = (fd,) if growth is None else (fd, growth)
        delivered: Counter[tuple[type, int]] = Counter()  # by kind and spec, whose order hangs on the cores
        crashes = 0
        while True:
            worker = await self._take_worker(deadline)
            queue_seconds = asyncio.get_running_loop().time() - began
            reason = ""
            try:
                cores = await cores_for_one(self._workers_for_one)
                asked = replace(request, cores=max(request.cores, cores))
                reason = "cancelled"
                async with aclosing(worker.run(fds, asked, self._limits, deadline)) as events:
                    numbers: Counter[tuple[type, int]] = Counter()
                    async for event in events:
                        kind = type(event), getattr(event, "spec", 0)
                        numbers[kind] += 1
                        if isinstance(event, MediaSummary):
                            reason = ""
                        if not isinstance(event, MediaInfo):
                            event = replace(event, queue_seconds=queue_seconds)
                        if numbers[kind] > delivered[kind]:  # what a crashed worker has delivered is not repeated
                            delivered[kind] = numbers[kind]
                            yield event
                return
            except ServiceError:
                reason = "memory" if worker.is_spent else ""
                raise
            except TimeoutError as error:
                reason = "deadline"
                raise DeadlineExceeded("The file was not decoded by the deadline.") from error
            except WorkerLostError as error:
                reason = worker.loss
                logger.warning("a decoder worker was lost: %s", error)
                crashes += reason == "crashed"
                if crashes == _MAX_CRASHES:
                    raise InvalidMedia("The file cannot be decoded: it crashed the decoder twice.") from error
            finally:
                self._give_back(worker, reason)

    async def _take_worker(self, deadline: float) -> WorkerProcess:
        if self._is_closed:
            raise NotReady
        self.waiting_requests += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
                self._num_busy += 1
                self._note_crowd()
                try:
                    while not (worker := await self._idle.get()).is_alive:
                        self._retire(worker, worker.loss)
                except BaseException:
                    self._leave_place()
                    raise
                return worker
        except TimeoutError as error:
            raise DeadlineExceeded("No decoder was free by the deadline.") from error
        finally:
            self.waiting_requests -= 1

    async def _look_after_workers(self) -> None:
        """Ends workers that are found stopped twice: their requests are tried again, not held to the deadline."""
        before: set[WorkerProcess] = set()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._retire_ended()
            stopped = {worker for worker in self._workers if worker.is_stopped}
            for worker in stopped & before:
                worker.loss = "stopped"
                worker.kill()
            before = stopped

    def _retire_ended(self) -> None:
        """Replaces idle workers that have ended, before a request needs them."""
        idle = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
        for worker in reversed(idle):  # as they were
            if worker.is_alive:
                self._idle.put_nowait(worker)
            else:
                self._retire(worker, worker.loss)

    def _workers_for_one(self) -> int:
        """Idle ones, whose cores one file may have; none in a crowd."""
        return 0 if asyncio.get_running_loop().time() < self._crowd_ends else self.idle_workers

    def _note_crowd(self) -> None:
        if self._num_busy > 1:
            self._crowd_ends = asyncio.get_running_loop().time() + _CROWD_SECONDS

    def _leave_place(self) -> None:
        self._note_crowd()
        self._num_busy -= 1
        self._places.release()

    def _give_back(self, worker: WorkerProcess, reason: str) -> None:
        """Make the worker free again, or replace it for `reason`."""
        self._leave_place()
        is_old = worker.num_jobs >= self._jobs_per_worker or worker.cpu_seconds >= self._worker_cpu_seconds
        if not reason and is_old:
            reason = "recycled"
        if not reason:
            self._idle.put_nowait(worker)
        else:
            self._retire(worker, reason)

    def _retire(self, worker: WorkerProcess, reason: str) -> None:
        if worker in self._workers:  # else the pool is closed
            self.restarts[reason] += 1
            self._workers.remove(worker)
            worker.kill()
            task = asyncio.get_running_loop().create_task(self._replace(worker))
            self._replacements.add(task)
            task.add_done_callback(self._replacements.discard)

    async def _replace(self, worker: WorkerProcess) -> None:
        is_missing = False
        while not self._is_closed:
            try:
                await self._start_worker()
                break
            except (OSError, TimeoutError, WorkerLostError):
                logger.exception("a decoder worker could not be started; trying again in %g s", _RETRY_SECONDS)
                self.num_missing += not is_missing
                is_missing = True
                await asyncio.sleep(_RETRY_SECONDS)
        self.num_missing -= is_missing
        await worker.bury(self._starter)  # last: who waits for a worker does not wait for the end of another

    async def _start_worker(self) -> None:
        worker = await asyncio.get_running_loop().run_in_executor(
            self._starter, WorkerProcess, self._worker_memory_bytes, 2 * self._worker_cpu_seconds
        )
        self._workers.add(worker)
        try:
            await worker.wait_until_ready()
        except BaseException:
            self._workers.discard(worker)
            worker.kill()
            await worker.bury(self._starter)
            raise
        self.missing_layers = tuple(layer for layer in LAYERS if layer not in worker.layers)
        self._idle.put_nowait(worker)


def _end_fork_server() -> None:
    """Ends the fork server and removes its folder, `pymp-…`, unless there are still workers, of whatever pool.

    Python does that where a process ends by itself, not where it ends by a signal, as the server does.
    """
    if not multiprocessing.active_children():
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        util._run_finalizers(-100)  # type: ignore[attr-defined]  # of which the one that removes the folder is the last
