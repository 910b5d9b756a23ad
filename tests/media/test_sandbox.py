"""The pool of decoder workers, with real processes that are killed, stopped and recycled."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import cores
from app.errors import DeadlineExceeded, InvalidMedia, NotReady, UnsupportedMedia
from app.media import sandbox
from app.media.decode import read_media
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaRequest,
    MediaSummary,
    WaveformChunk,
    WaveformSpec,
)
from app.media.sandbox import DecoderPool
from app.media.worker_process import WorkerProcess
from tests.media_maker import moving_frames, sine, write_video
from tests.robustness.processes import cpu_ticks

EVERYTHING = MediaRequest(
    frames=(FrameSpec(32, 24, clip_length=5), FrameSpec(40, 40, fit="pad", rate=10.0, chunk_length=4)),
    waveforms=(WaveformSpec(8000, 3000),),
)
STREAM = MediaRequest(frames=(FrameSpec(96, 64, rate=25.0, chunk_length=8),))
"""Of the long video: 40 chunks of 147 kB, more than any socket holds."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pool") / "short.mp4"
    return write_video(path, moving_frames(50), 25, waveform=sine(2.0, 16_000))


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("pool") / "long.mp4", moving_frames(320), 25)


@asynccontextmanager
async def running_pool(**settings: Any) -> AsyncIterator[DecoderPool]:
    pool = DecoderPool(**{"num_workers": 1, **settings})
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


async def collect(pool: DecoderPool, path: Path, request: MediaRequest, seconds: float = 30.0) -> list[MediaEvent]:
    with path.open("rb") as file:
        deadline = asyncio.get_running_loop().time() + seconds
        return [event async for event in pool.read(file.fileno(), request, deadline)]


def contents(events: list[MediaEvent]) -> list[tuple[Any, ...]]:
    """Everything of `events` but how long they took, comparable."""
    parts: list[tuple[Any, ...]] = []
    for event in events:
        if isinstance(event, FrameChunk):
            parts.append((event.spec, event.frames.tobytes(), event.frames.shape, event.times.tobytes()))
        elif isinstance(event, WaveformChunk):
            parts.append((event.spec, event.waveform.tobytes(), event.start_seconds))
        elif isinstance(event, MediaSummary):
            parts.append((event.duration_seconds, event.frames_decoded, event.frames_skipped, event.sampling))
        else:
            parts.append((event,))
    return parts


def worker_pids(pool: DecoderPool) -> list[int]:
    return [worker._process.pid for worker in pool._workers]  # type: ignore[misc]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  the pool announces nothing
        await asyncio.sleep(0.005)


@contextmanager
def no_file_handles() -> Iterator[None]:
    """None is left for this process while the context lasts."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_the_pool_gives_what_reading_in_process_gives(video: Path) -> None:
    async def test() -> None:
        with video.open("rb") as file:
            expected = list(read_media(file, EVERYTHING))
        async with running_pool(num_workers=2) as pool:
            answers = await asyncio.gather(*(collect(pool, video, EVERYTHING) for _ in range(6)))
        assert isinstance(expected[0], MediaInfo)
        assert {type(event) for event in expected} == {MediaInfo, FrameChunk, WaveformChunk, MediaSummary}
        for answer in answers:
            assert contents(answer) == contents(expected)
        assert any(answer[-1].queue_seconds > 0 for answer in answers)  # type: ignore[union-attr]

    run(test)


def test_the_file_offset_is_neither_used_nor_moved(video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            with video.open("rb") as file:
                file.seek(100)
                deadline = asyncio.get_running_loop().time() + 30
                events = [event async for event in pool.read(file.fileno(), EVERYTHING, deadline)]
                assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 100
                assert file.tell() == 100
        assert isinstance(events[-1], MediaSummary)

    run(test)


def test_a_deleted_file_is_read_by_its_descriptor(video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())

    async def test() -> None:
        async with running_pool() as pool:
            with copy.open("rb") as file:
                copy.unlink()
                deadline = asyncio.get_running_loop().time() + 30
                events = [event async for event in pool.read(file.fileno(), EVERYTHING, deadline)]
        assert isinstance(events[-1], MediaSummary)

    run(test)


def test_what_the_decoder_refuses_comes_back_as_the_same_error(tmp_path: Path, video: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 50)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:200])

    async def test() -> None:
        async with running_pool() as pool:
            with pytest.raises(UnsupportedMedia, match="not of a supported kind"):
                await collect(pool, text, EVERYTHING)
            with pytest.raises(InvalidMedia, match="damaged or cut off"):
                await collect(pool, cut, EVERYTHING)
            assert isinstance((await collect(pool, video, EVERYTHING))[-1], MediaSummary)
            assert not pool.restarts

    run(test)


def test_a_worker_killed_in_mid_job_costs_nothing_but_time(long_video: Path) -> None:
    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            expected = await collect(pool, long_video, STREAM)
            events: list[MediaEvent] = []
            with long_video.open("rb") as file:
                deadline = asyncio.get_running_loop().time() + 30
                async for event in pool.read(file.fileno(), STREAM, deadline):
                    events.append(event)
                    if len(events) == 5:
                        busy = [worker for worker in pool._workers if worker not in pool._idle._queue]  # type: ignore[attr-defined]
                        os.kill(busy[0]._process.pid, signal.SIGKILL)
            assert contents(events) == contents(expected)
            assert pool.restarts == {"crashed": 1}
            await until(lambda: pool.idle_workers == 2)

    run(test)


def test_a_request_that_leaves_before_its_file_is_read_costs_no_worker(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "idle_cores", lambda: 1)
    monkeypatch.setattr(cores, "LOOK_AGAIN_SECONDS", 60.0)

    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            reading = asyncio.create_task(collect(pool, video, EVERYTHING, seconds=120.0))
            await until(lambda: pool.idle_workers == 1)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert pool.idle_workers == 2
            assert not pool.restarts

    run(test)


@pytest.mark.parametrize(("crowd_seconds", "expected"), [(60.0, 1), (-1.0, 2)])
def test_who_comes_right_after_a_crowd_has_one_core(
    crowd_seconds: float, expected: int, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "idle_cores", lambda: 2)
    monkeypatch.setattr(sandbox, "_CROWD_SECONDS", crowd_seconds)
    had: list[int] = []
    run_job = WorkerProcess.run

    def note(worker: WorkerProcess, fds: Any, request: MediaRequest, *rest: Any) -> Any:
        had.append(request.cores)
        return run_job(worker, fds, request, *rest)

    monkeypatch.setattr(WorkerProcess, "run", note)

    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            await asyncio.gather(collect(pool, video, EVERYTHING), collect(pool, video, EVERYTHING))
            await collect(pool, video, EVERYTHING)
        assert had == [2, 1, expected]

    run(test)


@pytest.mark.parametrize("num_events", [3, 8, 13, 18])
def test_a_worker_that_had_several_cores_is_followed_by_one_that_has_one(
    num_events: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives back the same chunks of each spec, in another order."""
    path = write_video(tmp_path / "v.mp4", moving_frames(320), 25, options={"g": "40"})
    specs = tuple(FrameSpec(96, 64, rate=25.0, chunk_length=length) for length in (11, 5, 8, 25))
    idle_cores = [2]
    monkeypatch.setattr(cores, "idle_cores", lambda: idle_cores[0])

    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            events: list[MediaEvent] = []
            with path.open("rb") as file:
                deadline = asyncio.get_running_loop().time() + 30
                async for event in pool.read(file.fileno(), MediaRequest(frames=specs), deadline):
                    events.append(event)
                    if len(events) == num_events:
                        idle_cores[0] = 1
                        for worker in pool._workers:
                            if worker.num_jobs:
                                worker._process.kill()
            assert pool.restarts == {"crashed": 1}
        for spec in range(len(specs)):
            chunks = [event for event in events if isinstance(event, FrameChunk) and event.spec == spec]
            times = np.concatenate([chunk.times for chunk in chunks])
            np.testing.assert_allclose(times, np.arange(320) / 25)

    run(test)


def test_a_file_that_kills_every_worker_is_invalid_and_neighbours_do_not_notice(long_video: Path) -> None:
    async def kill_whoever_reads(pool: DecoderPool) -> None:
        with long_video.open("rb") as file:
            deadline = asyncio.get_running_loop().time() + 30
            async for _ in pool.read(file.fileno(), STREAM, deadline):
                for worker in pool._workers:
                    if worker.num_jobs and worker not in neighbour:
                        worker._process.kill()

    neighbour: list[Any] = []

    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            with long_video.open("rb") as file:
                deadline = asyncio.get_running_loop().time() + 30
                reading = pool.read(file.fileno(), STREAM, deadline)
                first = await anext(reading)
                neighbour.extend(worker for worker in pool._workers if worker.num_jobs)
                with pytest.raises(InvalidMedia, match="crashed the decoder twice"):
                    await kill_whoever_reads(pool)
                rest = [event async for event in reading]
            assert isinstance(first, MediaInfo)
            assert sum(len(event.frames) for event in rest if isinstance(event, FrameChunk)) == 320
            assert pool.restarts == {"crashed": 2}

    run(test)


def test_a_worker_that_hangs_is_killed_at_the_deadline(long_video: Path, video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            os.kill(worker_pids(pool)[0], signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="not decoded by the deadline"):
                await collect(pool, long_video, STREAM, seconds=0.3)
            assert time.monotonic() - began > 0.25
            assert isinstance((await collect(pool, video, EVERYTHING))[-1], MediaSummary)
            assert pool.restarts == {"deadline": 1}

    run(test)


def test_workers_that_are_stopped_are_found_out_before_the_deadline(video: Path) -> None:
    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            for pid in worker_pids(pool):
                os.kill(pid, signal.SIGSTOP)
            answers = await asyncio.gather(*(collect(pool, video, EVERYTHING, seconds=60.0) for _ in range(2)))
            assert all(isinstance(answer[-1], MediaSummary) for answer in answers)
            assert pool.restarts == {"stopped": 2}

    run(test)


def test_workers_that_are_stopped_are_found_out_after_a_time_without_file_handles(video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            with no_file_handles():
                await asyncio.sleep(1.2)  # for a look or two
            os.kill(worker_pids(pool)[0], signal.SIGSTOP)
            assert isinstance((await collect(pool, video, EVERYTHING, seconds=20.0))[-1], MediaSummary)
            assert pool.restarts == {"stopped": 1}

    run(test)


def test_without_a_file_handle_to_look_at_the_cores_a_file_is_read_all_the_same(video: Path) -> None:
    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            with video.open("rb") as file, no_file_handles():
                deadline = asyncio.get_running_loop().time() + 30
                events = [event async for event in pool.read(file.fileno(), EVERYTHING, deadline)]
            assert isinstance(events[-1], MediaSummary)
            assert pool.idle_workers == 2

    run(test)


def test_a_worker_that_ends_while_it_is_looked_at_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerProcess(1 << 30, 60)

    def read_too_late(path: Path) -> str:
        with path.open() as file:
            worker.kill()
            worker._process.join()
            return file.read()

    monkeypatch.setattr(Path, "read_text", read_too_late)
    assert not worker.is_stopped
    with ThreadPoolExecutor(1) as executor:
        asyncio.run(worker.bury(executor))


def test_waiting_for_a_worker_ends_at_the_deadline(long_video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            with long_video.open("rb") as file:
                reading = pool.read(file.fileno(), STREAM, asyncio.get_running_loop().time() + 30)
                await anext(reading)
                assert pool.idle_workers == 0
                second = asyncio.create_task(collect(pool, long_video, STREAM, seconds=0.2))
                await until(lambda: pool.waiting_requests == 1)
                with pytest.raises(DeadlineExceeded, match="No decoder was free"):
                    await second
                assert pool.waiting_requests == 0
                await reading.aclose()

    run(test)


def test_closing_the_iterator_frees_the_worker(long_video: Path, video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            with long_video.open("rb") as file:
                reading = pool.read(file.fileno(), STREAM, asyncio.get_running_loop().time() + 30)
                async for event in reading:
                    if isinstance(event, FrameChunk):
                        break
                await reading.aclose()
            assert isinstance((await collect(pool, video, EVERYTHING))[-1], MediaSummary)
            assert pool.restarts == {"cancelled": 1}

    run(test)


def test_a_cancelled_request_frees_the_worker(long_video: Path, video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            os.kill(worker_pids(pool)[0], signal.SIGSTOP)
            request = asyncio.create_task(collect(pool, long_video, STREAM))
            await until(lambda: pool.idle_workers == 0 and pool.waiting_requests == 0)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            assert isinstance((await collect(pool, video, EVERYTHING))[-1], MediaSummary)
            assert pool.restarts == {"cancelled": 1}

    run(test)


def test_a_spare_takes_the_place_of_a_worker_that_is_lost(long_video: Path) -> None:
    async def test() -> None:
        async with running_pool(num_workers=1, num_spares=1) as pool:
            assert (len(pool._workers), pool.idle_workers) == (2, 1)
            with long_video.open("rb") as file:
                reading = pool.read(file.fileno(), STREAM, asyncio.get_running_loop().time() + 30)
                await anext(reading)
                assert pool.idle_workers == 0  # the spare is none that a second job could have
                second = asyncio.create_task(collect(pool, long_video, STREAM, seconds=0.2))
                with pytest.raises(DeadlineExceeded, match="No decoder was free"):
                    await second
                [busy] = [worker for worker in pool._workers if worker.num_jobs]
                [spare] = [worker for worker in pool._workers if not worker.num_jobs]
                os.kill(busy._process.pid, signal.SIGKILL)  # type: ignore[arg-type]
                rest = [event async for event in reading]
            assert isinstance(rest[-1], MediaSummary)
            assert spare.num_jobs == 1
            await until(lambda: len(pool._workers) == 2)
            assert pool.idle_workers == 1

    run(test)


def test_a_worker_that_died_idle_is_replaced_before_it_is_given_a_job(video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            os.kill(worker_pids(pool)[0], signal.SIGKILL)
            worker = next(iter(pool._workers))
            await until(lambda: not worker.is_alive)
            assert isinstance((await collect(pool, video, EVERYTHING))[-1], MediaSummary)
            assert pool.restarts == {"crashed": 1}

    run(test)


def test_a_worker_that_died_idle_is_replaced_also_where_no_job_comes() -> None:
    async def test() -> None:
        async with running_pool(num_workers=2) as pool:
            died = worker_pids(pool)[0]
            os.kill(died, signal.SIGKILL)
            await until(lambda: died not in worker_pids(pool) and pool.idle_workers == 2)
            assert (pool.living_workers, pool.restarts) == (2, {"crashed": 1})

    run(test)


def test_a_fork_server_that_ends_over_a_worker_is_replaced_too(video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            fork_server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
            worker = next(iter(pool._workers))
            resource.prlimit(fork_server, resource.RLIMIT_NOFILE, (0, 0))  # it cannot take what it is asked
            worker.kill()
            await until(lambda: not worker.is_alive)
            assert pool.living_workers == 0
            reading = asyncio.create_task(collect(pool, video, EVERYTHING, seconds=60.0))
            await until(lambda: pool.num_missing == 1 or reading.done())
            assert isinstance((await reading)[-1], MediaSummary)
            assert (pool.num_missing, pool.living_workers) == (0, 1)

    run(test)


def test_workers_are_recycled(video: Path) -> None:
    async def test() -> None:
        async with running_pool(jobs_per_worker=2) as pool:
            pids = []
            for _ in range(5):
                await until(lambda: pool.idle_workers == 1)
                pids += worker_pids(pool)
                await collect(pool, video, EVERYTHING)
            assert len(set(pids)) == 3
            assert pids[0] == pids[1] != pids[2]
            assert pool.restarts == {"recycled": 2}

    run(test)


def test_workers_are_recycled_before_their_time_is_up(long_video: Path) -> None:
    """Three seconds of jobs, of workers that may spend one each, and end by two."""

    async def main() -> None:
        async with running_pool(worker_cpu_seconds=1) as pool:
            spent = 0.0
            while spent < 3 or not pool.restarts:
                await until(lambda: bool(worker_pids(pool)))
                [pid] = worker_pids(pool)
                before = cpu_ticks(pid)
                await collect(pool, long_video, STREAM)
                if worker_pids(pool) == [pid]:
                    spent += (cpu_ticks(pid) - before) / os.sysconf("SC_CLK_TCK")
            assert set(pool.restarts) == {"recycled"}

    run(main)


def test_a_slow_consumer_holds_the_worker_back(long_video: Path) -> None:
    """The worker stops when the socket is full: it has then not read to the end of what it was asked for."""

    async def test() -> None:
        async with running_pool() as pool:
            with long_video.open("rb") as file:
                reading = pool.read(file.fileno(), STREAM, asyncio.get_running_loop().time() + 60)
                await anext(reading)
                pid = worker_pids(pool)[0]
                before, spent = -1, _cpu_ticks(pid)
                while spent != before:  # it comes to rest, or the test's time runs out
                    await asyncio.sleep(0.2)
                    before, spent = spent, _cpu_ticks(pid)
                assert _is_asleep(pid)
                chunks = [event async for event in reading if isinstance(event, FrameChunk)]
                assert _cpu_ticks(pid) > spent  # it had been held back, and was not done
            assert sum(len(chunk.frames) for chunk in chunks) == 320

    run(test)


def test_no_worker_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import asyncio\n"
        "from app.media.sandbox import DecoderPool\n"
        "async def main():\n"
        "    pool = DecoderPool(num_workers=2)\n"
        "    await pool.start()\n"
        "    print(*(worker._process.pid for worker in pool._workers), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        os.kill(pids[0], signal.SIGSTOP)  # as good as hung in a decoder: it cannot notice that its socket is closed
        server.kill()
        server.wait()
        for pid in pids:
            while _is_running(pid):
                time.sleep(0.01)


def test_a_closed_pool_takes_no_more(video: Path) -> None:
    async def test() -> None:
        async with running_pool() as pool:
            pids = worker_pids(pool)
        assert not any(_is_running(pid) for pid in pids)
        with pytest.raises(NotReady):
            await collect(pool, video, EVERYTHING)

    run(test)


def test_no_torch_in_a_worker() -> None:
    from app.media import worker

    assert "torch" in sys.modules or pytest.importorskip("torch")
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(AssertionError, match="torch"):
        worker.serve(theirs, 1 << 30, 60)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def _is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
