"""Slow clients by the hundred beside good ones."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.load import Outcome, ask, keep_asking, percentile
from tests.robustness import scale
from tests.robustness.processes import server_apart
from tests.server import RunningServer

GOOD = 75  # requests of a good client, one after the other
ENDS = ("idle", "header", "lingering", "evicted", "unread")


@contextmanager
def slow_clients(server: RunningServer, count: int) -> Iterator[None]:
    """`count` of every kind there is, once they are there; niced, so that they do not hold up the good ones here."""
    command = ["nice", sys.executable, "-m", "tests.robustness.slow_clients", *map(str, server.address), str(count)]
    process = subprocess.Popen(command)
    try:
        # Three of five kinds upload. They are ended and come again, so that all are never there on a slow machine.
        server.wait_for_metric("afterframe_uploads_arriving", count // 5, at_least=True)
        yield
    finally:
        process.kill()
        process.wait()


def good_client(server: RunningServer, video: bytes, count: int) -> list[Outcome]:
    """All are answered."""
    outcomes: list[Outcome] = []
    post = partial(ask, server, "/classify?model=motion", video)
    asyncio.run(keep_asking(post, outcomes, lambda: len(outcomes) == count))
    assert [outcome.status for outcome in outcomes] == [200] * count
    return outcomes


def test_good_clients_do_not_notice_slow_ones(busy_server: RunningServer, example: bytes) -> None:
    with slow_clients(busy_server, 50):
        good_client(busy_server, example, 20)
        assert busy_server.metric("afterframe_requests_in_flight") == 0  # a slow one holds no place


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_a_thousand_slow_connections(shipped_store: Path, example: bytes) -> None:
    """Times are told, not judged: a slow machine has a core less for good ones than a fast one."""
    with server_apart(shipped_store, models="motion") as server:
        good_client(server, example, GOOD)
        memory = server.memory_bytes()
        alone, beside = [], []
        for _ in range(3):  # one after the other, so that both share whatever else the machine does
            alone += good_client(server, example, GOOD)
            with slow_clients(server, scale.SLOW_CLIENTS):
                beside += good_client(server, example, GOOD)
                assert server.metric("afterframe_requests_in_flight") == 0
        grown = server.memory_bytes() - memory
        ended = {reason: server.metric(f'afterframe_connections_ended_total{{reason="{reason}"}}') for reason in ENDS}
    for name, outcomes in {"alone": alone, f"beside {scale.SLOW_CLIENTS} slow ones": beside}.items():
        p50, p99 = percentile(outcomes, 50), percentile(outcomes, 99)
        print(f"\n{name}: {len(outcomes)} of {len(outcomes)} answered, p50 {p50:.3f} s, p99 {p99:.3f} s")
    print(f"memory +{grown / 2**20:.0f} MiB; ended: {ended}")
    assert grown < 100 * 2**20
