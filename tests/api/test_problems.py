"""Every error is problem+json with a request id, also those that Starlette and uvicorn make."""

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.api import problems
from app.api.headers import CrossOrigin, SecurityHeaders
from app.api.observe import Observe
from app.telemetry import Telemetry
from tests.server import RunningServer, read_answer, running_server


def assert_problem(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:afterframe:problem:")
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


@pytest.mark.parametrize(
    "query",
    [
        {"top_k": 0},
        {"top_k": "many"},
        {"min_score": 2},
        {"sampling": "lucky"},
        {"timelime": "true"},
        {"start_seconds": -1},
        {"start_seconds": "nan"},
        {"start_seconds": 2, "end_seconds": 1},
        {"model": ["tiny", "tiny-rate"], "version": "1"},
        {"top_k": [1, 2]},
    ],
)
def test_bad_queries(client: httpx.Client, red_video: Path, query: dict[str, object]) -> None:
    assert_problem(client.post("/classify", params=query, content=red_video.read_bytes()), 400)


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ("POST /predict?model=tiny-forecast&model=tiny-forecast", "model"),
        ("POST /stream/steps?model=tiny&end=true&model=tiny", "model"),
        ("GET /models/tiny/card?version=1&version=2", "version"),
        ("GET /models/tiny/card?versio=1", "versio"),
    ],
)
def test_what_would_be_passed_over_is_refused(
    client: httpx.Client, red_video: Path, asked: str, parameter: str
) -> None:
    method, url = asked.split()
    problem = assert_problem(client.request(method, url, content=red_video.read_bytes()), 400)
    assert [error["parameter"] for error in problem["errors"]] == [parameter]  # type: ignore[attr-defined]


def test_what_is_wrong_with_several_parameters_names_none(client: httpx.Client, red_video: Path) -> None:
    late = {"start_seconds": 2, "end_seconds": 1}
    problem = assert_problem(client.post("/classify", params=late, content=red_video.read_bytes()), 400)
    assert problem["detail"] == "end_seconds must be after start_seconds, by a microsecond at least"
    assert problem["errors"] == [{"message": problem["detail"]}]


def test_not_all_that_is_wrong_is_told(client: httpx.Client) -> None:
    query = "&".join(f"{'x' * 100}{number}=1" for number in range(200))
    problem = assert_problem(client.post(f"/classify?{query}", content=b"video"), 400)
    assert len(json.dumps(problem)) < 10_000
    assert str(problem["detail"]).endswith("; and 184 more")


def test_a_body_that_is_compressed_is_refused_before_it_comes(server: RunningServer) -> None:
    with server.connect() as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: here\r\nContent-Length: 99\r\nContent-Encoding: gzip\r\n\r\n"
        )
        status, headers, body = read_answer(connection)
    assert (status, headers["accept-encoding"]) == (415, "identity")
    assert "Content-Encoding" in json.loads(body)["detail"]


def test_unknown_model_version_and_route(client: httpx.Client, red_video: Path) -> None:
    video = red_video.read_bytes()
    assert "tiny" in assert_problem(client.post("/classify?model=nobody", content=video), 404)["detail"]
    assert "1, 2" in assert_problem(client.post("/classify?model=tiny&version=9", content=video), 404)["detail"]
    assert_problem(client.get("/models/nobody"), 404)
    assert_problem(client.get("/models/nobody/card"), 404)
    assert_problem(client.get("/nowhere"), 404)


def test_a_target_may_name_the_host(server: RunningServer) -> None:
    for target, name in ((b"http://there:80/models/tiny?a=b", "tiny"), (b"HTTP://there/models/tiny-rate", "tiny-rate")):
        with server.connect() as connection:
            connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: here\r\n\r\n")
            status, _, body = read_answer(connection)
        assert (status, json.loads(body)["name"]) == (200, name)


def test_wrong_method(client: httpx.Client) -> None:
    response = client.get("/classify")
    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"
    headless = client.head("/classify")
    assert (headless.status_code, headless.headers["allow"], headless.content) == (405, "POST", b"")
    for path in ("/models", "/openapi.json"):
        response = client.post(path)
        assert_problem(response, 405)
        assert {*response.headers["allow"].split(", ")} == {"GET", "HEAD"}


def test_no_body(server: RunningServer, client: httpx.Client) -> None:
    assert_problem(client.post("/classify", content=b""), 400)
    address = server.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=10) as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 411 ")


def test_form_without_the_file(client: httpx.Client, red_video: Path) -> None:
    assert "file" in assert_problem(client.post("/classify", files={"video": red_video.read_bytes()}), 400)["detail"]
    form = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n'
    multipart = {"content-type": "multipart/form-data; boundary=x"}
    assert "text" in assert_problem(client.post("/classify", content=form, headers=multipart), 400)["detail"]
    no_boundary = {"content-type": "multipart/form-data"}
    assert_problem(client.post("/classify", content=form, headers=no_boundary), 400)
    assert_problem(client.post("/classify", content=b"--y\r\nbroken", headers=multipart), 400)


def test_a_form_that_was_cut_off_is_none(client: httpx.Client, red_video: Path) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + red_video.read_bytes()
    multipart = {"content-type": "multipart/form-data; boundary=x"}
    for end in (b"", b"\r\n--x", b"\r\n--x\r\n", b"\r\n--x-"):
        response = client.post("/classify", content=part + end, headers=multipart)
        assert "too early" in str(assert_problem(response, 400)["detail"])
    for end in (b"\r\n--x--", b"\r\n--x--\r\n", b"\r\n--x--\r\nan epilogue\r\n--x\r\n"):
        assert client.post("/classify", content=part + end, headers=multipart).status_code == 200


@pytest.mark.parametrize("content", [b"not a video at all", b"\x00" * 5000, b"<html></html>", bytes(range(256)) * 40])
def test_what_is_no_video_is_415(client: httpx.Client, content: bytes) -> None:
    assert_problem(client.post("/classify", content=content), 415)


def test_a_video_without_its_pictures_is_422(client: httpx.Client, red_video: Path) -> None:
    video = bytearray(red_video.read_bytes())
    start = video.index(b"mdat") + 4
    end = start - 8 + int.from_bytes(video[start - 8 : start - 4])  # the box's size stands before its name
    video[start:end] = bytes(end - start)
    assert_problem(client.post("/classify", content=bytes(video)), 422)


TWO_LENGTHS = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


@pytest.mark.parametrize("sent", [b"HELLO?\r\n\r\n", TWO_LENGTHS])
def test_what_is_not_http_is_a_problem_too(server: RunningServer, sent: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == 400


def test_limits_of_size_and_places(store: Path, red_video: Path) -> None:
    video = red_video.read_bytes()
    with running_server(store, max_upload_bytes=len(video), max_requests=1) as server, server.client() as client:
        assert client.post("/classify", content=video).status_code == 200
        problem = assert_problem(client.post("/classify", content=video + b"\x00"), 413)
        assert str(len(video)) in str(problem["detail"])
        longer = iter([video, b"\x00" * 70000])
        assert_problem(client.post("/classify", content=longer), 413)
        refused = 'afterframe_http_request_duration_seconds_count{method="POST",route="/classify",status="413"}'
        server.wait_for_metric(refused, 2)  # the first was refused before it came to a route
        assert server.metric('afterframe_requests_rejected_total{reason="UploadTooLarge"}') == 2

        with ThreadPoolExecutor() as threads, server.workers_stopped():
            first = threads.submit(client.post, "/classify", content=video)
            server.wait_for_metric("afterframe_requests_in_flight", 1)
            response = client.post("/classify", content=video)
            assert_problem(response, 429)
            assert server.line(response.headers["x-request-id"])["route"] == "/classify"
            assert int(response.headers["retry-after"]) >= 1
            assert client.get("/health/ready").status_code == 200
        assert first.result().status_code == 200
        server.wait_for_metric("afterframe_requests_in_flight", 0)
        assert client.post("/classify", content=video).status_code == 200
        assert server.metric('afterframe_requests_rejected_total{reason="Overloaded"}') == 1


def test_deadline(store: Path, three_colour_video: Path) -> None:
    with running_server(store, deadline_seconds=0.000001) as server, server.client() as client:
        assert_problem(client.post("/classify", content=three_colour_video.read_bytes()), 504)


@pytest.mark.parametrize("origins", [(), ("https://page.example", "https://other.example"), ("*",)])
def test_what_fails_inside_stays_inside(caplog: pytest.LogCaptureFixture, origins: tuple[str, ...]) -> None:
    """A route that breaks, behind what every route is behind."""
    app = FastAPI()
    problems.install(app, origins)
    if origins:
        app.add_middleware(CrossOrigin, origins=origins)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observe, telemetry=Telemetry(), routes=app.routes)

    @app.get("/work")
    async def work() -> None: ...

    @app.get("/break")
    async def fail() -> None:
        raise RuntimeError("in /secret/path")

    async def ask(path: str, origin: str) -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, headers={"origin": origin})

    response = asyncio.run(ask("/break", "https://page.example"))
    problem = assert_problem(response, 500)
    assert "secret" not in response.text
    assert response.headers.get_list("x-request-id") == [problem["request_id"]]
    assert response.headers["content-security-policy"]
    (record,) = [record for record in caplog.records if record.message == "internal error"]
    assert record.__dict__["fields"] == {"request_id": problem["request_id"]}
    for_browsers = ("access-control-", "vary", "content-security", "cross-origin-")
    for origin in ("https://page.example", "https://nobody.example"):
        one, other = (
            [pair for pair in asyncio.run(ask(path, origin)).headers.items() if pair[0].startswith(for_browsers)]
            for path in ("/break", "/work")
        )
        assert sorted(one) == sorted(other)
    may_read = response.headers.get("access-control-allow-origin")
    assert may_read == {(): None, ("*",): "*"}.get(origins, "https://page.example")


def test_methods_that_nobody_knows_are_counted_as_one(server: RunningServer, client: httpx.Client) -> None:
    name = 'afterframe_http_request_duration_seconds_count{method="other",route="unmatched",status="404"}'
    before = server.metric(name)
    for method in ("BREW", "WHEN"):
        assert_problem(client.request(method, "/nowhere"), 404)
    server.wait_for_metric(name, before + 2)
