"""One decoder worker as the service sees it: a process forked from a fork server, and our end of its socket."""

import asyncio
import multiprocessing
import os
import socket
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Literal

import numpy as np

from app.errors import ServiceError
from app.media import worker
from app.media.answers import MAX_HEADER_BYTES, Answer, AnswerError, Given
from app.media.confinement import Layer
from app.media.request import MediaEvent, MediaLimits, MediaRequest, MediaSummary
from app.media.wire import LENGTHS, encode_job

_START_SECONDS = 30.0


class WorkerLostError(Exception):
    """The worker died or cannot be trusted any more."""


class WorkerProcess:
    """One worker process and our end of its socket."""

    def __init__(self, memory_bytes: int, cpu_seconds: int) -> None:
        """Forks the process; blocks for some 15 ms (the first time, until the fork server is up).

        Raises OSError, or WorkerLostError where the fork server ends over it; the next one is forked by a new server.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["app.media.fork_server"])
        self._connection, theirs = socket.socketpair()
        self._connection.setblocking(False)
        with theirs:
            self._process = context.Process(target=worker.serve, args=(theirs, memory_bytes, cpu_seconds), daemon=True)
            try:
                self._process.start()
            except (OSError, EOFError) as error:
                self._connection.close()
                if isinstance(error, EOFError):
                    raise WorkerLostError("the fork server ended over it") from error
                raise
        self.num_jobs = 0
        self.layers: tuple[Layer, ...] = ()
        """What confines it; known once it is ready."""
        self.is_spent = False
        """Ran out of memory; what is left of it may be in pieces."""
        self.loss: Literal["crashed", "stopped"] = "crashed"
        """Why it is lost if it is: with `stopped`, by somebody's SIGSTOP, its file has nothing to do with it."""

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def is_stopped(self) -> bool:
        """Somebody has sent it SIGSTOP: it neither works nor ends."""
        return self._stat()[:1] == ["T"]

    @property
    def cpu_seconds(self) -> float:
        """What it has spent in all its life."""
        return sum(map(int, self._stat()[11:13])) / os.sysconf("SC_CLK_TCK")

    def _stat(self) -> list[str]:
        """From `state` on: proc(5). Empty where it has ended, or there is no file handle to look with."""
        try:
            return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        except OSError:  # before the file was opened, or read
            return []

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
        given = Given()
        while True:
            async with asyncio.timeout_at(deadline):
                answer, body = await self._receive(request, limits)
            try:
                event = answer.event(body, given)
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
