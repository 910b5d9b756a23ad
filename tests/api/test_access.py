"""Who may ask, where from and where: keys over HTTP and WebSocket, other pages, the port for operations."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from app.api.headers import SECURITY_HEADERS
from app.api.keys import make_key
from tests.api.test_problems import assert_problem
from tests.server import RunningServer, read_answer, running_server

PAGE = "https://page.example"
START = json.dumps({"type": "start"})


@dataclass
class Guarded:
    server: RunningServer
    keys: dict[str, str]
    file: Path

    def headers(self, name: str = "lab") -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[name]}"}

    @property
    def stream_url(self) -> str:
        return self.server.url.replace("http://", "ws://") + "/stream"


LIMITS = {"lab": "", "camera": 'paths = ["/stream"]\nmax_requests = 1\n', "slow": "requests_per_second = 0.01\n"}


@pytest.fixture(scope="module")
def guarded(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A service with keys, one origin and a port for operations."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    made = {name: make_key(name) for name in LIMITS}
    file.write_text("".join(entry + LIMITS[name] for name, (_, entry) in made.items()))
    settings = {"api_keys_file": file, "cors_origins": PAGE, "operations_port": 0, "models": "tiny"}
    settings |= {"log_level": "debug"}  # when it says most
    with running_server(store, decoder_workers=1, **settings) as server:
        yield Guarded(server, {name: key for name, (key, _) in made.items()}, file)


@pytest.fixture
def client(guarded: Guarded) -> Iterator[httpx.Client]:
    with guarded.server.client() as client:
        yield client


def test_a_key_opens_the_door_and_is_named_in_the_log(guarded: Guarded, client: httpx.Client, red_video: Path) -> None:
    for headers in (guarded.headers(), {"x-api-key": guarded.keys["lab"]}):
        response = client.post("/classify", content=red_video.read_bytes(), headers=headers)
        assert response.status_code == 200
        line = guarded.server.line(response.headers["x-request-id"])
        assert line["key"] == "lab"
        assert guarded.keys["lab"] not in str(guarded.server.lines)


@pytest.mark.parametrize("path", ["/classify", "/models", "/nowhere", "/stream/schema"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer af_none"}, {"authorization": "Basic YTpi"}])
def test_without_a_key_there_is_nothing(client: httpx.Client, path: str, headers: dict[str, str]) -> None:
    response = client.get(path, headers=headers)
    assert_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("path", "route"),
    [("/classify", "/classify"), ("/models/mine/card", "/models/{name}/card"), ("/nowhere", "unmatched")],
)
def test_what_is_refused_carries_the_route_that_it_was_for(
    guarded: Guarded, client: httpx.Client, path: str, route: str
) -> None:
    name = f'afterframe_http_request_duration_seconds_count{{method="GET",route="{route}",status="401"}}'
    before = guarded.server.metric(name)
    response = client.get(path)
    assert guarded.server.line(response.headers["x-request-id"])["route"] == route
    guarded.server.wait_for_metric(name, before + 1)


def test_what_people_read_needs_none(client: httpx.Client) -> None:
    assert [client.get(path).status_code for path in ("/", "/web/page.js", "/docs", "/openapi.json")] == [200] * 4


def test_a_key_is_checked_before_the_body(guarded: Guarded) -> None:
    with guarded.server.connect() as connection:
        connection.sendall(
            b"POST /classify HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        )
        status, _, body = read_answer(connection)  # and not 100
    assert status == 401
    assert guarded.server.line(json.loads(body)["request_id"])["body_bytes"] == 0


def test_a_key_for_something_else(guarded: Guarded, client: httpx.Client) -> None:
    assert "/stream" in str(assert_problem(client.get("/models", headers=guarded.headers("camera")), 403)["detail"])


def test_a_key_that_asks_too_often(guarded: Guarded, client: httpx.Client) -> None:
    assert client.get("/models", headers=guarded.headers("slow")).status_code == 200
    response = client.get("/models", headers=guarded.headers("slow"))
    assert_problem(response, 429)
    assert 90 <= int(response.headers["retry-after"]) <= 100
    assert client.get("/models", headers=guarded.headers()).status_code == 200


def test_streams_with_keys_and_as_many_as_theirs_may_have(guarded: Guarded) -> None:
    headers = guarded.headers("camera")
    with connect(guarded.stream_url, additional_headers=headers) as socket:
        socket.send(START)
        assert json.loads(socket.recv())["type"] == "welcome"
        assert_refused(guarded, 429, headers=headers)
    guarded.server.wait_for_metric("afterframe_stream_sessions", 0)
    browsers = [Subprotocol("afterframe"), Subprotocol(f"afterframe.key.{guarded.keys['camera']}")]
    with connect(guarded.stream_url, subprotocols=browsers) as socket:
        assert socket.subprotocol == "afterframe"
        socket.send(START)
        assert json.loads(socket.recv())["type"] == "welcome"
    guarded.server.wait_for_metric("afterframe_stream_sessions", 0)
    assert guarded.keys["camera"] not in str(guarded.server.lines)


def test_streams_without_a_key_or_from_another_page(guarded: Guarded) -> None:
    assert_refused(guarded, 401)
    refused = 'afterframe_http_request_duration_seconds_count{method="GET",route="/stream",status="401"}'
    guarded.server.wait_for_metric(refused, 1, at_least=True)
    for origin in ("https://other.example", "http://[", "null"):
        assert_refused(guarded, 403, headers=guarded.headers() | {"origin": origin})
    assert_refused(guarded, 404, "/classify", headers=guarded.headers())
    for origin in (PAGE, guarded.server.url):
        with connect(guarded.stream_url, additional_headers=guarded.headers() | {"origin": origin}):
            pass
    assert not [line for line in guarded.server.lines if line.get("level") == "error"]


def assert_refused(guarded: Guarded, status: int, path: str = "/stream", headers: dict[str, str] | None = None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(guarded.stream_url.removesuffix("/stream") + path, additional_headers=headers)
    response = refused.value.response
    problem = json.loads(response.body)
    assert (response.status_code, problem["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == response.headers["x-request-id"]
    assert guarded.server.line(problem["request_id"])["status"] == status


@pytest.mark.parametrize(
    ("target", "more", "status"),
    [
        ("/stream", "", 400),
        ("/stream", f"Sec-WebSocket-Key: {'A' * 22}==\r\nContent-Length: 5\r\n", 400),
        ("/stream", f"Cookie: {'a' * 9000}\r\n", 431),
        (f"/stream?model={'a' * 9000}", "", 414),
    ],
)
def test_a_handshake_that_is_none(guarded: Guarded, target: str, more: str, status: int) -> None:
    with guarded.server.connect() as connection:
        connection.sendall(
            f"GET {target} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{more}"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = read_answer(connection)
        assert connection.recv(1) == b""
    assert (answer[0], answer[1]["content-type"]) == (status, "application/problem+json")
    assert guarded.server.line(json.loads(answer[2])["request_id"])["status"] == status


def test_operations_are_on_their_port_alone_and_need_no_key(guarded: Guarded, client: httpx.Client) -> None:
    assert_problem(client.get("/metrics", headers=guarded.headers()), 404)
    assert_problem(client.get("/health/ready"), 404)
    with httpx.Client(base_url=guarded.server.operations_url) as operations:
        assert operations.get("/health/ready").status_code == 200
        assert "afterframe_places" in operations.get("/metrics").text
        for path in ("/models", "/docs", "/nowhere"):
            assert_problem(operations.get(path, headers=guarded.headers()), 404)


@pytest.mark.parametrize("end", ["%0A", "%0D", "%00", "/", "%2F"])
def test_a_path_that_is_nearly_one_is_none(guarded: Guarded, client: httpx.Client, red_video: Path, end: str) -> None:
    """The router's patterns match before a last line feed, too; what guards a path must not miss it for that."""
    for path in ("/metrics", "/health/ready", "/models"):
        assert_problem(client.get(path + end, headers=guarded.headers()), 404)
    video = red_video.read_bytes()
    assert_problem(client.post(f"/classify{end}", content=video, headers=guarded.headers()), 404)


def test_operations_answer_probes_by_head(guarded: Guarded, client: httpx.Client) -> None:
    with httpx.Client(base_url=guarded.server.operations_url) as operations:
        for path in ("/health/live", "/health/ready", "/metrics"):
            answer = operations.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
        assert operations.head("/models").status_code == 404
    assert client.head("/health/live").status_code == 404
    assert client.head("/models").status_code == 401
    assert client.head("/models", headers=guarded.headers()).status_code == 200


def test_pages_of_the_origins_may_ask_and_no_others(guarded: Guarded, client: httpx.Client) -> None:
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for method in ("GET", "HEAD", "POST"):
        asked = asking | {"access-control-request-method": method}
        allowed = client.options("/classify", headers={"origin": PAGE, **asked})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, PAGE)
    refused = client.options("/classify", headers={"origin": "https://other.example", **asking})
    assert refused.status_code == 204
    assert "access-control-allow-origin" not in refused.headers
    problem = client.get("/models", headers={"origin": PAGE})
    assert_problem(problem, 401)  # which the page can read
    assert problem.headers["access-control-allow-origin"] == PAGE
    exposed = problem.headers["access-control-expose-headers"].lower().split(", ")
    assert {"x-request-id", "preference-applied", "x-partial"} <= {*exposed}


def test_other_pages_may_not_ask_where_none_are_named(server: RunningServer) -> None:
    with server.client() as client:
        response = client.get("/models", headers={"origin": PAGE})
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert client.options("/classify", headers={"origin": PAGE}).status_code == 405


def test_every_answer_says_that_it_is_no_page(client: httpx.Client) -> None:
    for path in ("/models", "/openapi.json", "/nowhere"):
        headers = client.get(path).headers
        assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'none'")
        assert "server" not in headers
    assert "script-src" in client.get("/docs").headers["content-security-policy"]


def test_the_command_makes_a_key_that_works(guarded: Guarded, client: httpx.Client) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "app.api.keys", "late"], capture_output=True, text=True, check=True, timeout=60
    )
    key = made.stderr.strip()
    assert key not in made.stdout
    with guarded.file.open("a") as file:
        file.write(made.stdout)
    end = time.monotonic() + 30
    while client.get("/models", headers={"x-api-key": key}).status_code != 200:
        assert time.monotonic() < end, "the key was not read"
        time.sleep(0.1)


def test_the_command_says_which_names_there_are() -> None:
    made = subprocess.run([sys.executable, "-m", "app.api.keys", "a b"], capture_output=True, text=True)
    assert (made.returncode, made.stdout) == (2, "")
    assert "a name has 64 letters" in made.stderr
    assert "Traceback" not in made.stderr
