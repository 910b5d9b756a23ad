"""Good uploads, bad ones and bombs for a long time: nothing adds up, and nothing takes more and more work."""

import asyncio
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.load import Outcome, ask, percentile
from tests.media_maker import write_video
from tests.robustness import scale
from tests.server import RunningServer, running_server

SAMPLE_SECONDS = 5.0
CLIENTS = 3
WARM_UP = 0.25  # of the time: caches fill, workers are replaced for the first time


@dataclass(frozen=True)
class Sample:
    """What the server holds at one time."""

    seconds: float
    memory_bytes: int
    descriptors: int
    threads: int
    cpu_seconds: float
    """Spent so far, its workers included."""
    num_good: int
    """Good uploads that were answered."""


def sample(server: RunningServer, began: float, num_good: int) -> Sample:
    process = Path(f"/proc/{server.process.pid}")
    descriptors = len(os.listdir(process / "fd"))  # noqa: PTH208  # a Path would open one
    threads = len(list((process / "task").iterdir()))
    seconds = time.monotonic() - began
    return Sample(seconds, server.memory_bytes(), descriptors, threads, server.cpu_seconds(), num_good)


def uploads(folder: Path, example: bytes) -> dict[str, list[bytes]]:
    """Bodies of each kind."""
    huge = np.zeros((1, 4352, 4352, 3), np.uint8)  # over the limit of pixels, and small as a file
    bomb = write_video(folder / "bomb.mp4", huge, 1).read_bytes()
    lying = example.replace(b"\x00\xa0\x00\x00\x00\x78", b"\x7f\xff\x00\x00\x7f\xff")  # of its width and height
    return {
        "good": [example],
        "bad": [example[: len(example) // 2], b"text" * 1000, bytes(100_000), example[1000:], b"\x1aE\xdf\xa3" * 500],
        "bomb": [bomb, lying, example[:200] + bytes(4_000_000)],
    }


async def soak(
    server: RunningServer, bodies: dict[str, list[bytes]], seconds: float
) -> tuple[list[Outcome], list[Sample]]:
    """Good ones alone are returned; all others are looked at here."""
    chosen = random.Random(scale.SEED)
    good: list[Outcome] = []
    samples: list[Sample] = []
    began = time.monotonic()

    async def client() -> None:
        while time.monotonic() < began + seconds:
            kind = chosen.choices(("good", "bad", "bomb"), (80, 10, 10))[0]
            outcome = await ask(server, "/classify?model=motion&timeline=true", chosen.choice(bodies[kind]))
            if kind == "good":
                assert outcome.status == 200, outcome
                good.append(outcome)
            else:
                assert outcome.status in (200, 400, 413, 415, 422), outcome

    async def watch() -> None:
        while time.monotonic() < began + seconds:
            samples.append(sample(server, began, len(good)))
            await asyncio.sleep(SAMPLE_SECONDS)

    await asyncio.gather(watch(), *(client() for _ in range(CLIENTS)))
    return good, samples


def test_good_ones_are_answered_between_bad_ones(busy_server: RunningServer, example: bytes, tmp_path: Path) -> None:
    good, _ = asyncio.run(soak(busy_server, uploads(tmp_path, example), 3.0))
    assert good


@pytest.mark.robustness
@pytest.mark.timeout(scale.SOAK_SECONDS + 300)
def test_nothing_adds_up(shipped_store: Path, example: bytes, tmp_path: Path) -> None:
    with running_server(shipped_store, models="motion", decoder_jobs_per_worker=100) as server:
        good, samples = asyncio.run(soak(server, uploads(tmp_path, example), scale.SOAK_SECONDS))
        restarts = {
            reason: server.metric(f'afterframe_decoder_worker_restarts_total{{reason="{reason}"}}')
            for reason in ("recycled", "crashed", "deadline", "memory")
        }
    warm = [one for one in samples if one.seconds >= WARM_UP * scale.SOAK_SECONDS]
    minutes = np.array([one.seconds / 60 for one in warm])
    slope = float(np.polyfit(minutes, [one.memory_bytes / 2**20 for one in warm], 1)[0])  # MiB a minute
    grown = slope * (minutes[-1] - minutes[0])  # MiB
    thousands = (warm[-1].num_good - warm[0].num_good) / 1000
    stretch = [outcome for outcome in good if outcome.began >= good[0].began + WARM_UP * scale.SOAK_SECONDS]
    sixth, part = len(stretch) // 6, len(warm) // 6
    first, last = percentile(stretch[:sixth], 99), percentile(stretch[-sixth:], 99)
    costs = [cost(warm[: part + 1]), cost(warm[-part - 1 :])]
    print(f"\n{scale.SOAK_SECONDS:.0f} s: {len(good)} good answers, {slope:+.2f} MiB a minute, {grown:+.1f} in all")
    print(samples[0], warm[0], warm[-1], sep="\n")
    print(f"p99 {first:.2f} s, at last {last:.2f} s; workers replaced: {restarts}")
    print(f"CPU for a good answer and what came beside it {costs[0]:.4f} s, at last {costs[1]:.4f} s")
    assert grown < 8 + 0.5 * thousands  # half a KiB of each upload, beside what memory does by itself
    assert warm[-1].descriptors <= warm[0].descriptors + CLIENTS
    # One moment tells little of threads: each client may have one that writes its file just then.
    threads = [float(np.median([one.threads for one in some])) for some in (warm[:part], warm[-part:])]
    assert threads[1] <= threads[0] + CLIENTS
    assert restarts["crashed"] == 0
    assert costs[1] < 1.5 * costs[0]  # what slows down takes more of a core, which others on the machine hardly change


def cost(samples: list[Sample]) -> float:
    """Seconds of CPU for a good answer, and for the bad uploads beside it."""
    first, last = samples[0], samples[-1]
    return (last.cpu_seconds - first.cpu_seconds) / (last.num_good - first.num_good)
