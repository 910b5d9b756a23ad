import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bench.contenders import Limit


@pytest.fixture
def limit() -> Iterator[Limit]:
    limit = Limit(Path("model"), program="tests.bench.short_work")
    yield limit
    limit.stop()


def test_clients_of_the_limit_are_served_in_turn(limit: Limit) -> None:
    """From an asking to its answer as many are answered as ask at once: by Little's law on average, in turn all.

    By count, not by time: the machine may be busy.
    """
    num_clients = 4 * len(limit.pids)
    finished: list[int] = []

    def ask(number: int) -> int:
        before = len(finished)
        assert limit.ask(Path("clip")) == [4.0]
        finished.append(number)
        return len(finished) - before

    with ThreadPoolExecutor(num_clients) as clients:
        answered_meanwhile = list(clients.map(ask, range(10 * num_clients)))
    steady = answered_meanwhile[num_clients:-num_clients]
    assert statistics.mean(steady) == pytest.approx(num_clients, rel=0.1)
    assert statistics.median(steady) == pytest.approx(num_clients, rel=0.25)
