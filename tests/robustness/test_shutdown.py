"""SIGTERM under load: nobody is let in, everybody who is in gets an answer, and nothing holds the service up."""

import asyncio
import signal
import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.load import Outcome, ask, connected, keep_asking, read_answer
from tests.robustness import scale
from tests.server import RunningServer, running_server
from tests.streaming import streaming

GRACE_SECONDS, DEADLINE_SECONDS = 12, 8
LATEST_SECONDS = GRACE_SECONDS + 60  # what comes after the grace takes its time on a slow machine, but not for ever
CLIENTS = 6


@pytest.mark.parametrize("rounds", [1, pytest.param(scale.SHUTDOWNS, marks=pytest.mark.robustness)])
@pytest.mark.timeout(1200)
def test_no_accepted_request_is_dropped(store: Path, red_video: Path, rounds: int) -> None:
    for number in range(rounds):
        grace = {"shutdown_seconds": GRACE_SECONDS, "deadline_seconds": DEADLINE_SECONDS}
        with running_server(store, models="tiny", operations_port=0, **grace) as server:
            with streaming(server, model="tiny") as stream:
                stream.start()
                outcomes = asyncio.run(stop_under_load(server, red_video.read_bytes(), number))
                assert (stream.hear()["code"], stream.close_code()) == (1012, 1012)
            assert server.process.wait(30) == -signal.SIGTERM
        assert_nothing_dropped(server, outcomes)


async def stop_under_load(server: RunningServer, video: bytes, number: int) -> list[Outcome]:
    """All that was asked while the service was told to stop: by clients that go on asking and one that sends slowly."""
    outcomes: list[Outcome] = []
    post = partial(ask, server, "/classify", video)
    load = [asyncio.create_task(keep_asking(post, outcomes, lambda: False)) for _ in range(CLIENTS)]
    slow = asyncio.create_task(upload_slowly(server))
    while len(outcomes) < 20 + number:
        await asyncio.wait(load, timeout=0.01)
    with server.workers_stopped():  # so that there is something to finish
        await asyncio.sleep(0.1)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        ready = await asyncio.to_thread(httpx.get, f"{server.operations_url}/health/ready")
        assert (ready.status_code, ready.json()["title"]) == (503, "Not ready")
    await asyncio.gather(*load)
    assert await slow == 503
    await asyncio.to_thread(server.process.wait, LATEST_SECONDS - (time.monotonic() - began))
    return outcomes


async def upload_slowly(server: RunningServer) -> int:
    """A client that would go on for hours, fast enough for nobody to mind; the status it gets."""
    async with connected(server) as (reader, writer):
        writer.write(b"POST /classify HTTP/1.1\r\nHost: here\r\nContent-Length: 100000000\r\n\r\n")
        answer = asyncio.create_task(read_answer(reader))
        while not answer.done():
            writer.write(bytes(10_000))
            await asyncio.sleep(0.1)
        status, _, _ = await answer
        return status


def assert_nothing_dropped(server: RunningServer, outcomes: list[Outcome]) -> None:
    """Whoever is in the log has the answer that the log speaks of, which is the result or that the service stops."""
    answered = {outcome.request_id: outcome.status for outcome in outcomes}
    logged = {
        line["request_id"]: line["status"] for line in server.lines if str(line.get("request_id")).startswith("load-")
    }
    assert {answered[request_id] for request_id in logged} <= {200, 503}
    assert {request_id: answered[request_id] for request_id in logged} == logged
    assert sum(status == 200 for status in logged.values()) >= 20 + CLIENTS - 1
    assert {outcome.status for outcome in outcomes if outcome.request_id not in logged} <= {0}
    assert not [line for line in server.lines if line.get("level") == "error"]


def test_a_server_that_was_stopped_leaves_no_files(
    store: Path, red_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running_server(store, models="tiny") as server:
        with server.client() as client:
            assert client.post("/classify", content=red_video.read_bytes()).status_code == 200
        assert list(tmp_path.iterdir())  # the fork server's socket lies there
        assert server.stop() == -signal.SIGTERM
    assert not list(tmp_path.iterdir())
