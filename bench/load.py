"""Load on a contender: a number of requests at once, their cost, and whether the answers were right."""

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import Contender, cpu_of


@dataclass(frozen=True)
class Measurement:
    """One contender, one clip, one number of requests at once."""

    contender: str
    clip: str
    concurrency: int
    cpu_seconds: float
    """CPU seconds per request in all processes of the contender, not of the client."""
    rate: float
    """Requests a second."""
    latencies: tuple[float, ...]
    """Seconds."""
    error: float
    """Largest difference of a score from the reference's."""
    is_right: bool
    """The best label of every answer is the reference's."""


def measure(
    contender: Contender, clip: Path, reference: Sequence[float], concurrency: int, num_requests: int
) -> Measurement:
    """Asks `num_requests` times, `concurrency` at once."""

    def ask(_: int) -> tuple[float, list[float]]:
        began = time.perf_counter()
        scores = contender.ask(clip)
        return time.perf_counter() - began, scores

    cpu_before, began = cpu_of(contender), time.perf_counter()
    with ThreadPoolExecutor(concurrency) as clients:
        answers = list(clients.map(ask, range(num_requests)))
    seconds = time.perf_counter() - began
    cpu = (cpu_of(contender) - cpu_before) / num_requests
    error = max(abs(got - wanted) for _, scores in answers for got, wanted in zip(scores, reference, strict=True))
    best = max(range(len(reference)), key=reference.__getitem__)
    is_right = all(scores[best] == max(scores) for _, scores in answers)
    latencies = tuple(latency for latency, _ in answers)
    return Measurement(contender.name, clip.stem, concurrency, cpu, num_requests / seconds, latencies, error, is_right)


def busy_elsewhere(seconds: float = 2.0) -> float:
    """The share of all cores that other processes use while nothing is measured."""
    before, began = _busy_ticks(), time.perf_counter()
    time.sleep(seconds)
    ticks = _busy_ticks() - before
    return ticks / os.sysconf("SC_CLK_TCK") / (time.perf_counter() - began) / (os.cpu_count() or 1)


def _busy_ticks() -> int:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(field) for field in fields[:8]) - int(fields[3]) - int(fields[4])  # less idle and waiting for disks


def median(values: Sequence[float]) -> float:
    """Of one value or more."""
    return float(statistics.median(values))
