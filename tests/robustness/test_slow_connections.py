"""Slow clients by the hundred beside good ones."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.load import Outcome, ask, ask_at_rate, keep_asking, percentile
from tests.robustness import scale
from tests.robustness.processes import server_apart
from tests.server import RunningServer

RATE = 5.0  # good requests a second
ENDS = ("idle", "header", "lingering", "evicted", "unread")


@contextmanager
def slow_clients(server: RunningServer, count: int) -> Iterator[None]:
    """`count` of every kind there is, once they are there; niced, so that they do not hold up the good ones here."""
    command = ["nice", sys.executable, "-m", "tests.robustness.slow_clients", *map(str, server.address), str(count)]
    process = subprocess.Popen(command)
    try:
        server.wait_for_metric("afterframe_uploads_arriving", count * 3 // 5, at_least=True)
        yield
    finally:
        process.kill()
        process.wait()


def good_clients(server: RunningServer, video: bytes, seconds: float) -> list[Outcome]:
    outcomes = asyncio.run(ask_at_rate(partial(ask, server, "/classify?model=motion", video), RATE, seconds))
    assert {outcome.status for outcome in outcomes} == {200}
    return outcomes


def test_good_clients_do_not_notice_slow_ones(busy_server: RunningServer, example: bytes) -> None:
    outcomes: list[Outcome] = []
    post = partial(ask, busy_server, "/classify?model=motion", example)
    with slow_clients(busy_server, 50):
        asyncio.run(keep_asking(post, outcomes, lambda: len(outcomes) == 20))
    assert [outcome.status for outcome in outcomes] == [200] * 20


@pytest.mark.robustness
@pytest.mark.timeout(600)
def test_a_thousand_slow_connections(shipped_store: Path, example: bytes) -> None:
    with server_apart(shipped_store, models="motion") as server:
        good_clients(server, example, 5.0)
        memory = server.memory_bytes()
        alone, beside = [], []
        for _ in range(3):  # one after the other, so that both share whatever else the machine does
            alone += good_clients(server, example, 15.0)
            with slow_clients(server, scale.SLOW_CLIENTS):
                beside += good_clients(server, example, 15.0)
        grown = server.memory_bytes() - memory
        ended = {reason: server.metric(f'afterframe_connections_ended_total{{reason="{reason}"}}') for reason in ENDS}
    for name, outcomes in {"alone": alone, f"beside {scale.SLOW_CLIENTS} slow ones": beside}.items():
        p50, p99 = percentile(outcomes, 50), percentile(outcomes, 99)
        print(f"\n{name}: {len(outcomes)} of {len(outcomes)} answered, p50 {p50:.3f} s, p99 {p99:.3f} s")
    print(f"memory +{grown / 2**20:.0f} MiB; ended: {ended}")
    assert percentile(beside, 99) < 2 * percentile(alone, 99)
    assert grown < 100 * 2**20
