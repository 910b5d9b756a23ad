"""Decodes files of unknown origin in worker processes, so that none of them can harm the service.

Workers are forked from a fork server that has av and numpy but no torch. A worker that crashes, hangs or answers
nonsense costs its own request only: the request is tried once more on another worker, and the worker is replaced.
"""

import asyncio
import logging
import multiprocessing
import os
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from app.errors import DeadlineExceeded, InvalidMedia, NotReady, ServiceError
from app.media import worker as worker_process
from app.media.answers import MAX_HEADER_BYTES, Answer, AnswerError
from app.media.confinement import LAYERS, Layer
from app.media.request import MediaEvent, MediaLimits, MediaRequest, MediaSummary
from app.media.wire import LENGTHS, encode_job

_START_SECONDS = 30.0
_MAX_THREADS = 4
"""Of one decoder: each holds a picture more, and a file that is split further gains little."""
_RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


class WorkerLostError(Exception):
    """The worker died or cannot be trusted any more."""


class WorkerProcess:
    """One worker process and our end of its socket."""

    def __init__(self, memory_bytes: int, cpu_seconds: int) -> None:
        """Forks the process; blocks for some 15 ms (the first time, until the fork server is up)."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([worker_process.__name__])
        self._connection, theirs = socket.socketpair()
        self._connection.setblocking(False)
        with theirs:
            self._process = context.Process(
                target=worker_process.serve, args=(theirs, memory_bytes, cpu_seconds), daemon=True
            )
            self._process.start()
        self.num_jobs = 0
        self.layers: tuple[Layer, ...] = ()
        """What confines it; known once it is ready."""
        self.is_spent = False
        """Ran out of memory; what is left of it may be in pieces."""

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    async def wait_until_ready(self) -> None:
        async with asyncio.timeout(_START_SECONDS):
            answer, _ = await self._receive(MediaRequest(), MediaLimits())
        if answer.layers is None:
            raise WorkerLostError("it began with something else than that it is ready")
        self.layers = answer.layers

    async def run(
        self, fds: Sequence[int], request: MediaRequest, limits: MediaLimits, deadline: float
    ) -> AsyncGenerator[MediaEvent]:
        """The worker's events. `fds`: the file; with one that is still growing, what tells of it (`GrowingFile`).

        Raises what it answers, WorkerLostError, or TimeoutError at `deadline`.
        """
        self.num_jobs += 1
        try:
            socket.send_fds(self._connection, [encode_job(request, limits)], fds)
        except OSError as error:
            raise WorkerLostError from error
        while True:
            async with asyncio.timeout_at(deadline):
                answer, body = await self._receive(request, limits)
            try:
                event = answer.event(body)
            except AnswerError as error:
                raise WorkerLostError(f"it sent {error}") from error
            if isinstance(event, ServiceError):
                self.is_spent = answer.is_spent
                raise event
            yield event
            if isinstance(event, MediaSummary):
                return

    async def _receive(
        self, request: MediaRequest, limits: MediaLimits
    ) -> tuple[Answer, np.ndarray[tuple[int], np.dtype[np.uint8]]]:
        header_bytes, body_bytes = LENGTHS.unpack((await self._read(LENGTHS.size)).tobytes())
        if header_bytes > MAX_HEADER_BYTES:
            raise WorkerLostError("it sent a header that is too long")
        try:
            answer = Answer((await self._read(header_bytes)).tobytes(), body_bytes, request, limits)
        except AnswerError as error:
            raise WorkerLostError(f"it sent {error}") from error
        return answer, await self._read(body_bytes)

    async def _read(self, num_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        data = np.empty(num_bytes, np.uint8)
        view, at = data.data, 0
        while at < num_bytes:
            try:
                count = await asyncio.get_running_loop().sock_recv_into(self._connection, view[at:])
            except OSError as error:
                raise WorkerLostError from error
            if not count:
                raise WorkerLostError("it ended")
            at += count
        return data

    def kill(self) -> None:
        """End the process at once; `bury` must follow. Whoever reads from it gets WorkerLostError."""
        self._process.kill()

    async def bury(self, executor: Executor) -> None:
        """Wait for the end of a killed process and let go of what it leaves."""
        await asyncio.get_running_loop().run_in_executor(executor, self._process.join)
        self._process.close()
        self._connection.close()


class DecoderPool:
    """A fixed number of decoder workers, each with one job at a time."""

    def __init__(
        self,
        num_workers: int = 2,
        worker_memory_bytes: int = 1 << 30,
        worker_cpu_seconds: int = 5 * 3600,
        jobs_per_worker: int = 200,
        limits: MediaLimits | None = None,
        num_spares: int = 0,
    ) -> None:
        """`worker_cpu_seconds`: a backstop behind every deadline; longer than any job may take.

        `num_spares`: workers beyond those that are at work at once; they take the place of one that is lost.
        """
        self.num_workers = num_workers
        """Processes, of which each decodes one file at a time on one core."""
        self.waiting_requests = 0
        """Requests that no worker has taken yet."""
        self.restarts: Counter[str] = Counter()
        """Workers replaced, by reason: recycled, crashed, deadline, cancelled, memory."""
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
        self._idle: asyncio.LifoQueue[WorkerProcess] = asyncio.LifoQueue()  # so that a spare stays as small as it is
        self._workers: set[WorkerProcess] = set()
        self._replacements: set[asyncio.Task[None]] = set()
        self._starter = ThreadPoolExecutor(1, "decoder-pool")  # forking blocks; one at a time is safe

    @property
    def idle_workers(self) -> int:
        """Jobs that could begin at once."""
        return min(self._idle.qsize(), self.num_workers - self._num_busy)

    async def start(self) -> None:
        """Start all workers; they can be given jobs when this returns."""
        await asyncio.gather(*(self._start_worker() for _ in range(self.num_workers + self._num_spares)))
        if self.missing_layers:
            logger.warning("decoder workers run without %s", ", ".join(self.missing_layers))

    async def close(self) -> None:
        """End all workers, also those at work."""
        self._is_closed = True
        await asyncio.gather(*self._replacements)  # not cancelled: a process that is being forked would be lost
        while self._workers:
            worker = self._workers.pop()
            worker.kill()
            await worker.bury(self._starter)
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
        delivered = 0
        for is_last_try in (False, True):
            worker = await self._take_worker(deadline)
            queue_seconds = asyncio.get_running_loop().time() - began
            reason = "cancelled"
            threads = min(1 + self.idle_workers, _idle_cores(), _MAX_THREADS)
            asked = replace(request, threads=max(request.threads, threads))
            try:
                async with aclosing(worker.run(fds, asked, self._limits, deadline)) as events:
                    number = 0
                    async for event in events:
                        number += 1
                        if isinstance(event, MediaSummary):
                            reason = ""
                            event = replace(event, queue_seconds=queue_seconds)
                        if number > delivered:  # what a crashed worker has delivered is not repeated
                            delivered = number
                            yield event
                return
            except ServiceError:
                reason = "memory" if worker.is_spent else ""
                raise
            except TimeoutError as error:
                reason = "deadline"
                raise DeadlineExceeded("The file was not decoded by the deadline.") from error
            except WorkerLostError as error:
                reason = "crashed"
                logger.warning("a decoder worker was lost: %s", error)
                if is_last_try:
                    raise InvalidMedia("The file cannot be decoded: it ended the decoder twice.") from error
            finally:
                self._give_back(worker, reason)

    async def _take_worker(self, deadline: float) -> WorkerProcess:
        if self._is_closed:
            raise NotReady("The service is stopping.")
        self.waiting_requests += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._places.acquire()
                self._num_busy += 1
                try:
                    while not (worker := await self._idle.get()).is_alive:
                        self._retire(worker, "crashed")
                except BaseException:
                    self._leave_place()
                    raise
                return worker
        except TimeoutError as error:
            raise DeadlineExceeded("No decoder was free by the deadline.") from error
        finally:
            self.waiting_requests -= 1

    def _leave_place(self) -> None:
        self._num_busy -= 1
        self._places.release()

    def _give_back(self, worker: WorkerProcess, reason: str) -> None:
        """Make the worker free again, or replace it for `reason`."""
        self._leave_place()
        if not reason and worker.num_jobs >= self._jobs_per_worker:
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
        await worker.bury(self._starter)
        while not self._is_closed:
            try:
                await self._start_worker()
                break
            except (OSError, TimeoutError, WorkerLostError):
                logger.exception("a decoder worker could not be started; trying again in %g s", _RETRY_SECONDS)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _start_worker(self) -> None:
        worker = await asyncio.get_running_loop().run_in_executor(
            self._starter, WorkerProcess, self._worker_memory_bytes, self._worker_cpu_seconds
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


def _idle_cores() -> int:
    """At least one. By the load of the last minute: on a core that others use as well, a thread more only costs."""
    return max(1, round(len(os.sched_getaffinity(0)) - os.getloadavg()[0]))
