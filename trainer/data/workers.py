"""Runs jobs that may crash, hang or eat all memory in processes that may die. Never imports torch."""

import errno
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from app.errors import ServiceError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoSpaceError(OSError):
    """There is no room for what a job writes. Its file is not to blame, and no other would fare better."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What one job may use before its process is ended."""

    max_memory_bytes: int = 2 * 2**30
    """Address space of the process."""
    deadline_seconds: float = 600.0
    """Wall time."""


@dataclass(slots=True)
class _Worker:
    process: ForkServerProcess
    index: int
    """Of the current job."""
    ends_at: float
    """When the job must be done, by time.monotonic()."""


def run_jobs(
    job: Callable[..., None],
    arguments: Sequence[tuple[Any, ...]],
    num_processes: int,
    limits: JobLimits,
    preload: Sequence[str] = (),
) -> Generator[tuple[int, str | None], None, None]:
    """For each of `arguments`, as its job ends: its index, and None or why `job` failed.

    A process does one job after another, since starting a process takes longer than decoding a short video (50 ms
    against 13 ms). When it dies or is ended, its job has failed and a new process takes its place. `preload`: modules
    that are imported before it starts. Raises NoSpaceError.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    waiting = list(range(len(arguments)))[::-1]
    workers: dict[Connection, _Worker] = {}
    try:
        while waiting or workers:
            while waiting and len(workers) < num_processes:
                connection, process = _start(context, job, limits)
                workers[connection] = _Worker(process, -1, 0.0)
                _give(connection, workers[connection], waiting.pop(), arguments, limits)
            next_end = min(worker.ends_at for worker in workers.values())
            ready = set(wait(list(workers), timeout=max(0.0, next_end - time.monotonic())))
            for connection, worker in list(workers.items()):
                if connection in ready:
                    reason, alive = _receive(connection, worker)
                elif worker.ends_at <= time.monotonic():
                    reason, alive = f"took over {limits.deadline_seconds:g} s", False
                else:
                    continue
                yield worker.index, reason
                if alive and waiting:
                    _give(connection, worker, waiting.pop(), arguments, limits)
                else:
                    _end(connection, workers.pop(connection))
    finally:
        for connection, worker in workers.items():
            _end(connection, worker)


def _start(
    context: ForkServerContext, job: Callable[..., None], limits: JobLimits
) -> tuple[Connection, ForkServerProcess]:
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, job, limits.max_memory_bytes), daemon=True)
    process.start()
    theirs.close()  # so that the connection ends when the process does
    return ours, process


def _give(
    connection: Connection, worker: _Worker, index: int, arguments: Sequence[tuple[Any, ...]], limits: JobLimits
) -> None:
    worker.index, worker.ends_at = index, time.monotonic() + limits.deadline_seconds
    connection.send(arguments[index])


def _receive(connection: Connection, worker: _Worker) -> tuple[str | None, bool]:
    """Why the job failed, or None; and whether the process can take another job. Raises NoSpaceError."""
    try:
        reason: str | NoSpaceError | None = connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        return f"its decoder died (exit code {worker.process.exitcode})", False
    if isinstance(reason, NoSpaceError):
        raise reason
    return reason, True


def _end(connection: Connection, worker: _Worker) -> None:
    connection.close()
    worker.process.kill()
    worker.process.join()


def _work(connection: Connection, job: Callable[..., None], max_memory_bytes: int) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all of a terminal's processes: the first one ends them
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            values = connection.recv()
        except EOFError:  # no jobs are left
            return
        try:
            job(*values)
        except (ServiceError, OSError, MemoryError) as error:
            is_full = isinstance(error, OSError) and error.errno in FULL
            connection.send(NoSpaceError(str(error)) if is_full else str(error) or type(error).__name__)
        else:
            connection.send(None)
