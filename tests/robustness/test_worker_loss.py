"""Decoder workers that are killed or stopped while the service is at work: what it costs, and whom."""

import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.robustness import scale
from tests.robustness.processes import cpu_ticks, decoders
from tests.server import RunningServer, running_server

EVERY_SECONDS = 0.5
EVERY_ANSWERS = 4  # at least: a slow machine is left time between two losses
STOPPED = 5  # every fifth is stopped, the others are killed
REST = 0.43  # of the time a request took: a client is at work for 70 % of the time


class Client(threading.Thread):
    """Posts one video after the other, at 70 % of what a worker can do."""

    def __init__(self, url: str, video: bytes) -> None:
        super().__init__()
        self.answers: list[tuple[int, str]] = []
        self.seconds: list[float] = []
        self.stop = threading.Event()
        self._url = url
        self._video = video

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self.stop.is_set():
                began = time.perf_counter()
                answer = client.post("/classify?model=tiny-rate", content=self._video)
                self.seconds.append(time.perf_counter() - began)
                self.answers.append((answer.status_code, answer.json().get("detail", "")))
                self.stop.wait(self.seconds[-1] * REST)


def storm(store: Path, video: bytes, count: int) -> None:
    chance = random.Random(scale.SEED)
    sent: Counter[signal.Signals] = Counter()
    with running_server(store, decoder_workers=2) as server:
        clients = [Client(server.url, video) for _ in range(2)]
        for client in clients:
            client.start()
        for number in range(count):
            time.sleep(EVERY_SECONDS)
            while sum(len(client.answers) for client in clients) < EVERY_ANSWERS * (number + 1):
                assert all(client.is_alive() for client in clients)
                time.sleep(0.01)
            what = signal.SIGSTOP if number % STOPPED == STOPPED - 1 else signal.SIGKILL
            with suppress(ProcessLookupError):
                os.kill(chance.choice(decoders(server.process.pid)), what)
                sent[what] += 1
        for client in clients:
            client.stop.set()
            client.join()
        answers = Counter(answer for client in clients for answer in client.answers)
        slowest = sorted(seconds for client in clients for seconds in client.seconds)
        print(f"{dict(sent)}; answers {dict(answers)}; p50 {statistics.median(slowest):.3f} s, last {slowest[-5:]}")
        check_answers(answers, sent)
        check_pool(server, video)


def check_answers(answers: Counter[tuple[int, str]], sent: Counter[signal.Signals]) -> None:
    """Whoever was hit was tried again, or failed alone."""
    by_status: Counter[int] = Counter()
    for (status, detail), count in answers.items():
        by_status[status] += count
        assert status == 200 or "crashed the decoder twice" in detail, detail
    assert by_status[200] > sum(sent.values())
    assert by_status[422] <= sum(sent.values()) // 2


def check_pool(server: RunningServer, video: bytes) -> None:
    """Once those that were stopped have been found out, there are as many workers as before, and they work."""
    with server.client() as client:
        for _ in range(6):
            client.post("/classify?model=tiny-rate", content=video)
        assert [client.post("/classify?model=tiny-rate", content=video).status_code for _ in range(6)] == [200] * 6
        metrics = client.get("/metrics").text
    assert "afterframe_decoder_workers_idle 2.0" in metrics
    assert server.process.poll() is None


def test_a_few(store: Path, red_video: Path) -> None:
    storm(store, red_video.read_bytes(), 6)


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_many(store: Path, red_video: Path) -> None:
    storm(store, red_video.read_bytes(), scale.KILLS)


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_the_next_request_after_a_loss(store: Path, red_video: Path) -> None:
    """Tells how much longer the next request takes when the worker that would have had it is gone."""
    video = red_video.read_bytes()
    with running_server(store, decoder_workers=1) as server, server.client() as client:

        def post() -> float:
            began = time.perf_counter()
            assert client.post("/classify", content=video).status_code == 200
            return time.perf_counter() - began

        usual = statistics.median([post() for _ in range(20)])
        extra = []
        for _ in range(scale.KILLS):
            os.kill(max(decoders(server.process.pid), key=cpu_ticks), signal.SIGKILL)  # who has served until now
            extra.append(post() - usual)
    print(f"usual {usual:.3f} s; after a loss {statistics.median(extra):.3f} s more, at most {max(extra):.3f} s more")
