"""Answers in events, and what becomes of the work for a client that leaves."""

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from prometheus_client import Histogram
from starlette.types import Message

from app.api import problems
from app.api.events import Emit, Event, EventResponse, Waiting
from tests.conftest import RATE, coloured_frames
from tests.media_maker import sine, write_sound, write_video
from tests.server import RunningServer, running_server

NDJSON = {"accept": "application/x-ndjson"}
SECONDS = 120


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two minutes: green, blue and red in turns of eight seconds."""
    frames = coloured_frames(*["green", "blue", "red"] * 5, seconds=8.0)
    path = tmp_path_factory.mktemp("media") / "long.mp4"
    return write_video(path, frames, RATE, options={"preset": "ultrafast"}).read_bytes()


def without_timing(answer: dict) -> dict:
    return {key: value for key, value in answer.items() if key not in ("timing", "type")}


def test_the_last_line_is_the_whole_answer(client: httpx.Client, long_video):
    url = "/classify?timeline=true&model=tiny-rate"
    whole = client.post(url, content=long_video).json()
    response = client.post(url, content=long_video, headers=NDJSON)
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["x-accel-buffering"] == "no"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["type"] for line in lines] == ["progress"] * (len(lines) - 1) + ["result"]
    assert without_timing(lines[-1]) == without_timing(whole)

    (results,) = zip(*(line["results"] for line in lines[:-1]), strict=True)
    seconds = [result["seconds"] for result in results]
    assert len(seconds) == SECONDS / 8 - 1  # a chunk is eight seconds, and told of when the next one is there
    assert seconds == sorted(seconds)
    assert 8 <= seconds[0] <= seconds[-1] < SECONDS
    assert all(result["labels"] for result in results)
    told = [segment for result in results for segment in result["segments"]]
    assert told == whole["results"][0]["segments"][: len(told)]  # each once, in order
    assert len(told) >= 9
    assert results[0]["labels"][0]["label"] == "green"


def test_server_sent_events_say_the_same(client: httpx.Client, red_video: Path):
    url = "/classify?model=tiny-rate&model=tiny"
    response = client.post(url, content=red_video.read_bytes(), headers={"accept": "text/event-stream, */*"})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events.pop() == ""
    last = json.loads(events[-1].removeprefix("data: "))
    assert last["type"] == "result"
    assert [result["model"]["name"] for result in last["results"]] == ["tiny-rate", "tiny"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("application/json, text/event-stream;q=0", "application/json"),
        ("application/json, application/x-ndjson;q=0.9", "application/json"),
        ("application/json;q=0.5, application/x-ndjson", "application/x-ndjson"),
        ("text/event-stream;q=0.5, application/x-ndjson;q=0.4, application/json;q=0.3", "text/event-stream"),
        ("TEXT/EVENT-STREAM ; Q=1.0", "text/event-stream"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("image/*", "application/json"),
    ],
)
def test_the_accept_header_is_weighed(client: httpx.Client, red_video: Path, accept: str, media_type: str):
    response = client.post("/classify", content=red_video.read_bytes(), headers={"accept": accept})
    assert response.headers["content-type"].split(";")[0] == media_type


def test_files_are_weighed_against_events(client: httpx.Client, tmp_path: Path):
    sound = write_sound(tmp_path / "sound.wav", sine(1.0, 8000), 8000).read_bytes()
    for weight, media_type in ((0.1, "text/csv"), (1, "application/x-ndjson")):
        headers = {"accept": f"text/csv;q=0.5, application/x-ndjson;q={weight}"}
        response = client.post("/features?model=tiny-describer", content=sound, headers=headers)
        assert response.headers["content-type"].split(";")[0] == media_type


def test_sound_comes_in_events_too(client: httpx.Client, tmp_path: Path):
    sound = write_sound(tmp_path / "sound.wav", sine(20.0, 8000), 8000).read_bytes()
    response = client.post("/classify?model=tiny-listener", content=sound, headers=NDJSON)
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["type"] for line in lines] == ["progress"] * 2 + ["result"]
    assert [line["results"][0]["seconds"] for line in lines[:2]] == [8.0, 16.0]


def test_steps_of_features_come_as_they_are_known(client: httpx.Client, tmp_path: Path):
    sound = write_sound(tmp_path / "sound.wav", sine(20.0, 8000), 8000).read_bytes()
    url = "/features?model=tiny-describer&level=steps"
    whole = client.post(url, content=sound).json()
    lines = [json.loads(line) for line in client.post(url, content=sound, headers=NDJSON).text.splitlines()]
    assert [line["type"] for line in lines] == ["progress"] * (len(lines) - 1) + ["result"]
    seconds = [line["seconds"] for line in lines[:-1]]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] == 20.0
    told = [step for line in lines[:-1] for step in line["steps"]]
    assert told == whole["steps"][: len(told)]
    assert len(told) >= 160  # of 50 ms: one chunk at least is behind
    assert without_timing(lines[-1]) == without_timing(whole)


def test_surprise_comes_as_it_is_known(client: httpx.Client, three_colour_video: Path):
    url, video = "/predict?model=tiny-forecast&surprise=true&horizon=1", three_colour_video.read_bytes()
    whole = client.post(url, content=video).json()
    lines = [json.loads(line) for line in client.post(url, content=video, headers=NDJSON).text.splitlines()]
    assert [line["type"] for line in lines] == ["progress"] * (len(lines) - 1) + ["result"]
    told = [score for line in lines[:-1] for score in line["surprise"]]
    assert told == whole["surprise"][: len(told)]
    assert len(told) > len(whole["surprise"]) / 2
    assert all(line["surprise"] for line in lines[:-1])
    assert without_timing(lines[-1]) == without_timing(whole)


def test_a_forecast_alone_has_no_events(client: httpx.Client, red_video: Path):
    response = client.post("/predict?model=tiny-forecast", content=red_video.read_bytes(), headers=NDJSON)
    assert response.headers["content-type"] == "application/json"


def test_an_error_before_the_first_event_is_a_problem(client: httpx.Client):
    response = client.post("/classify", content=b"no video" * 10, headers=NDJSON)
    assert (response.status_code, response.headers["content-type"]) == (415, "application/problem+json")


def test_what_is_missing_is_said_before_the_first_event(client: httpx.Client, tmp_path: Path):
    """A model of sound beside one of video, and no sound."""
    video = write_video(tmp_path / "v.ts", coloured_frames(*["red"] * 5, seconds=8.0), RATE).read_bytes()
    response = client.post("/classify?model=tiny-rate&model=tiny-listener", content=video, headers=NDJSON)
    assert response.status_code == 422


@pytest.fixture(scope="module")
def patient(store: Path) -> Iterator[RunningServer]:
    with running_server(store, models="tiny-rate", decoder_workers=1, arriving_workers=0, max_requests=1) as running:
        yield running


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_a_client_that_leaves_stops_the_work(patient, tmp_path, accept):
    """Its place, its decoder and its model calls are free: the next request is answered. Without that it would be
    refused with 429, for as long as the first one takes."""
    frames = coloured_frames(*["red"] * 3, seconds=8.0, width=640, height=480)
    video = write_video(tmp_path / "large.mp4", frames, RATE, options={"preset": "ultrafast"}).read_bytes()
    url = "/classify?timeline=true&model=tiny-rate"
    with patient.client() as client:
        before = metric(client, 'afterframe_decoder_worker_restarts_total{reason="cancelled"}')
        leave_early(patient, url, video, accept)
        patient.wait_for_metric("afterframe_requests_in_flight", 0)
        patient.wait_for_metric("afterframe_decoder_workers_idle", 1)
        assert metric(client, "afterframe_inference_queue_depth") == 0
        assert metric(client, 'afterframe_decoder_worker_restarts_total{reason="cancelled"}') == before + 1
        assert client.post(url, content=video).status_code == 200
    line = next(line for line in reversed(patient.lines) if line.get("status") == 499)
    assert line["route"] == "/classify"


def leave_early(server: RunningServer, url: str, video: bytes, accept: str) -> None:
    """Closes the connection while the answer is being made: before it, or after its first event."""
    headers = {"accept": accept}
    if accept == "application/x-ndjson":
        with server.client() as client, client.stream("POST", url, content=video, headers=headers) as response:
            next(response.iter_lines())
        return
    timeout = httpx.Timeout(10, read=0.05)
    with server.workers_stopped(), server.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post(url, content=video, headers=headers, timeout=timeout)


def metric(client: httpx.Client, name: str) -> float:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.split()[-1])
    return 0.0


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "no room"),
        (MemoryError(), 503, "no memory"),
        (ArithmeticError("the model answered NaN or infinity"), 500, "finds it in the log"),
    ],
)
def test_whatever_fails_after_the_first_event_is_the_last_one(error: Exception, status: int, said: str):
    async def work(emit: Emit) -> Event:
        emit(lambda: Waiting(detail="soon"))
        await asyncio.sleep(0.01)
        raise error

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(answering(work)), base_url="http://here") as client:
            return await client.get("/")

    response = asyncio.run(ask())
    first, last = map(json.loads, response.text.splitlines())
    assert response.status_code == 200
    assert first["detail"] == "soon"
    assert (last["status"], said in last["detail"]) == (status, True)
    assert "NaN" not in last["detail"]


def answering(work: Callable[[Emit], Awaitable[Event]]) -> FastAPI:
    """An application that answers with what `work` emits."""
    app = FastAPI()
    problems.install(app)
    telemetry = SimpleNamespace(first_result_seconds=Histogram("first", "", ["route"], registry=None))

    @app.get("/")
    async def answer(request: Request) -> Response:
        request.state.service, request.state.request_id = SimpleNamespace(telemetry=telemetry), "one"
        return EventResponse(request, "application/x-ndjson", work)

    return app


async def ask_slowly(work: Callable[[Emit], Awaitable[Event]], send: Callable[[Message], Awaitable[None]]) -> None:
    """Asks as a server does, whose `send` returns when the client has taken what was sent."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "state": {}}
    await answering(work)(scope, receive, send)


@pytest.mark.parametrize("num_taken", [0, 1, 2])
def test_the_work_ends_with_the_request_whatever_the_client_had_taken(num_taken: int):
    """Of the head and the first events."""
    ended = False

    async def work(emit: Emit) -> Event:
        nonlocal ended
        try:
            for _ in range(3):
                emit(lambda: Waiting(detail="soon"))
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            ended = True
        raise AssertionError

    async def leave() -> None:
        taken: list[Message] = []
        is_stuck = asyncio.Event()

        async def send(message: Message) -> None:
            if len(taken) == num_taken:
                is_stuck.set()
                await asyncio.Event().wait()
            taken.append(message)

        request = asyncio.create_task(ask_slowly(work, send))
        await is_stuck.wait()
        assert not ended
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        assert ended

    asyncio.run(leave())


def test_nothing_piles_up_for_a_client_that_is_behind():
    """What it misses is in the next event; the work does not wait for it."""
    num_known = num_told = 0
    is_known = asyncio.Event()

    async def work(emit: Emit) -> Event:
        nonlocal num_known

        def make() -> Event:
            nonlocal num_told
            fresh, num_told = num_known - num_told, num_known
            return Waiting(detail=str(fresh))

        for _ in range(1000):
            num_known += 1
            emit(make)
            await asyncio.sleep(0)
        is_known.set()
        return Waiting(detail="end")

    async def read() -> list[str]:
        lines: list[str] = []

        async def send(message: Message) -> None:
            if body := message.get("body"):
                lines.append(json.loads(body)["detail"])
            await is_known.wait()

        await ask_slowly(work, send)
        return lines

    lines = asyncio.run(read())
    assert lines[-1] == "end"
    assert len(lines) <= 4
    assert sum(map(int, lines[:-1])) == 1000


def test_an_event_says_something(client: httpx.Client, three_colour_video: Path):
    """9 s, of which the writer is shown four at once; and a model that looks at the whole has nothing to say before."""
    lines = events(client, "/caption?timeline=true", three_colour_video)
    assert len(lines) == 3
    assert all(line["segments"] for line in lines[:-1])
    assert [line["type"] for line in events(client, "/classify?model=tiny", three_colour_video)] == ["result"]


def events(client: httpx.Client, url: str, video: Path) -> list[dict]:
    text = client.post(url, content=video.read_bytes(), headers=NDJSON).text
    return [json.loads(line) for line in text.splitlines()]
