"""More than the service can do: what it takes it does as well as ever, and the rest it refuses at once."""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests.load import Outcome, ask, ask_at_rate, keep_asking, percentile
from tests.robustness import scale
from tests.robustness.processes import server_apart
from tests.server import RunningServer

CLOSED_LOOP_CLIENTS = 6


@dataclass
class Level:
    """What came of one rate of requests."""

    load: float
    """In capacities."""
    answered: list[Outcome] = field(default_factory=list)
    refused: list[Outcome] = field(default_factory=list)
    health: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the service and its workers. What else runs on the machine changes times, but hardly these."""
    client_cpu_seconds: float = 0.0

    async def run(self, server: RunningServer, video: bytes, capacity: float, seconds: float) -> None:
        post = partial(ask, server, "/classify?model=motion", video)
        cpu_seconds, client_cpu_seconds = server.cpu_seconds(), time.process_time()
        outcomes, health = await asyncio.gather(
            ask_at_rate(post, self.load * capacity, seconds),
            ask_at_rate(partial(ask, server, "/health/ready"), 2, seconds),
        )
        self.cpu_seconds += server.cpu_seconds() - cpu_seconds
        self.client_cpu_seconds += time.process_time() - client_cpu_seconds
        answered = [outcome for outcome in outcomes if outcome.status == 200]
        refused = [outcome for outcome in outcomes if outcome.status == 429]
        assert len(answered) + len(refused) == len(outcomes)
        assert all(int(outcome.headers["retry-after"]) >= 1 for outcome in refused)
        assert {outcome.status for outcome in health} == {200}
        self.answered += answered
        self.refused += refused
        self.health += health
        self.seconds += max(outcome.began + outcome.seconds for outcome in answered) - outcomes[0].began

    @property
    def goodput(self) -> float:
        """Answers a second."""
        return len(self.answered) / self.seconds

    def __str__(self) -> str:
        cost = 1000 * self.cpu_seconds / len(self.answered)
        text = f"{self.load:g}x: {self.goodput:.1f} answers a second of {cost:.1f} ms CPU each "
        text += f"({self.cpu_seconds:.1f} s, clients {self.client_cpu_seconds:.1f} s of {self.seconds:.1f} s), "
        text += f"p50 {percentile(self.answered, 50):.2f} s, p99 {percentile(self.answered, 99):.2f} s"
        if self.refused:
            text += f"; {len(self.refused)} refused, p50 {1000 * percentile(self.refused, 50):.0f} ms, "
            text += f"p99 {1000 * percentile(self.refused, 99):.0f} ms"
        return text + f"; health p99 {1000 * percentile(self.health, 99):.0f} ms"


async def measure_capacity(server: RunningServer, video: bytes, seconds: float) -> float:
    """Answers a second to clients that wait for theirs."""
    loop = asyncio.get_running_loop()
    outcomes: list[Outcome] = []
    post = partial(ask, server, "/classify?model=motion", video)
    began = loop.time()
    clients = (keep_asking(post, outcomes, lambda: loop.time() > began + seconds) for _ in range(CLOSED_LOOP_CLIENTS))
    await asyncio.gather(*clients)
    assert {outcome.status for outcome in outcomes} == {200}
    return len(outcomes) / (loop.time() - began)


async def ramp(server: RunningServer, video: bytes, seconds: float, rounds: int, levels: list[Level]) -> None:
    await measure_capacity(server, video, seconds / 2)  # everything is warm then
    capacity = await measure_capacity(server, video, seconds)
    for _ in range(rounds):  # level by level again and again, so that they share whatever else the machine does
        for level in levels:
            await level.run(server, video, capacity, seconds)
    print(f"\ncapacity {capacity:.1f} answers a second", *levels, sep="\n")


def test_what_is_too_much_is_refused_at_once(busy_server: RunningServer, example: bytes) -> None:
    level = Level(4.0)
    before = busy_server.metric('afterframe_requests_rejected_total{reason="Overloaded"}')
    asyncio.run(ramp(busy_server, example, 2.0, 1, [level]))
    assert level.answered
    assert level.refused
    busy_server.wait_for_metric('afterframe_requests_rejected_total{reason="Overloaded"}', before + len(level.refused))


@pytest.mark.robustness
@pytest.mark.timeout(900)
@pytest.mark.parametrize("max_requests", [8, 32])
def test_goodput_and_times_under_overload(shipped_store: Path, example: bytes, max_requests: int) -> None:
    levels = [Level(load) for load in (0.5, 1.0, 2.0, 4.0)]
    with server_apart(shipped_store, models="motion", max_requests=max_requests) as server:
        asyncio.run(ramp(server, example, scale.LEVEL_SECONDS, 3, levels))
    half, full, _, most = levels
    assert most.goodput >= 0.9 * max(level.goodput for level in levels)
    assert percentile(most.refused, 99) < 0.1
    assert percentile(most.answered, 99) <= 1.5 * percentile(full.answered, 99)
    assert not half.refused
