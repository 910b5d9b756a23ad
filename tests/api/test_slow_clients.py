"""Clients that are slow, broken or worse: they get their answer or the boot, and leave nothing behind."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.server import RunningServer, read_answer, running_server
from tests.streaming import upgraded

PATIENCE_SECONDS = 1.0
MAX_CONNECTIONS = 40
RATE = 10_000  # bytes a second
HEAD = b"POST /classify HTTP/1.1\r\nHost: here\r\n"
SLOW_SECONDS = 20  # until when a test waits for what should take one


@pytest.fixture(scope="module")
def impatient(store: Path) -> Iterator[RunningServer]:
    limits = {"patience_seconds": PATIENCE_SECONDS, "min_upload_bytes_per_second": RATE, "max_uploads": 20}
    few = {"max_requests": 2, "max_connections": MAX_CONNECTIONS, "decoder_workers": 1}
    with running_server(store, models="tiny", **few, **limits) as running:
        yield running


def is_closed(connection: socket.socket) -> bool:
    """Whether the service ends it, with or without a word, while we wait."""
    connection.settimeout(SLOW_SECONDS)
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def drip(connection: socket.socket) -> None:
    end = time.monotonic() + SLOW_SECONDS
    while time.monotonic() < end:
        connection.sendall(b"more")
        time.sleep(0.01)


def assert_answer(server: RunningServer, connection: socket.socket, status: int) -> dict[str, str]:
    """A problem with `status`, whose id is in the log line too."""
    found, headers, body = read_answer(connection)
    problem = json.loads(body)
    assert (found, problem["status"]) == (status, status)
    assert headers["content-type"] == "application/problem+json"
    assert server.line(problem["request_id"])["status"] == status
    return headers


def test_who_sends_no_header_is_left(impatient: RunningServer) -> None:
    with impatient.connect() as connection:
        assert is_closed(connection)


@pytest.mark.parametrize("begun", [b"G", HEAD + b"X-Padding: a"])
def test_a_header_that_does_not_end(impatient: RunningServer, begun: bytes) -> None:
    with impatient.connect() as connection:
        for number in range(len(begun)):
            connection.sendall(begun[number : number + 1])
        assert_answer(impatient, connection, 408)
        assert is_closed(connection)


def test_a_second_header_that_does_not_end(impatient: RunningServer) -> None:
    with impatient.connect() as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        assert read_answer(connection)[0] == 200
        connection.sendall(b"GET /health/live HTTP/1.1\r\n")
        assert_answer(impatient, connection, 408)


def test_a_body_that_stops(impatient: RunningServer) -> None:
    with impatient.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nsome")
        headers = assert_answer(impatient, connection, 408)
        assert headers["connection"] == "close"
        assert is_closed(connection)


def test_a_body_that_drips_holds_no_place(impatient: RunningServer, red_video: Path) -> None:
    with impatient.client() as client, impatient.connect() as connection:
        connection.sendall(HEAD + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n")
        impatient.wait_for_metric("afterframe_uploads_arriving", 1)
        assert impatient.metric("afterframe_requests_in_flight") == 0
        client.post("/classify", content=red_video.read_bytes()).raise_for_status()
        connection.settimeout(0.1)
        answer = b""
        for byte in b"--x\r\nX-Padding: " + b"a" * 1000:
            connection.sendall(bytes([byte]))
            try:
                answer = connection.recv(100)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")
    impatient.wait_for_metric("afterframe_uploads_arriving", 0)


def test_nothing_is_made_for_an_upload_that_has_hardly_begun(impatient: RunningServer) -> None:
    before = num_descriptors(impatient)
    with ExitStack() as opened:
        for _ in range(5):
            opened.enter_context(impatient.connect()).sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + bytes(4000))
        impatient.wait_for_metric("afterframe_uploads_arriving", 5)
        assert impatient.metric("afterframe_spool_bytes") == 5 * 4000
        descriptors = len(os.listdir(f"/proc/{impatient.process.pid}/fd"))  # noqa: PTH208
        assert descriptors <= before + 5 + 1  # their connections, and ours that asks for the metrics
    wait_until_nothing_is_left(impatient, before)


def test_a_body_that_is_slow_but_comes(impatient: RunningServer, red_video: Path) -> None:
    video = red_video.read_bytes()
    assert len(video) < 2 * RATE  # so that these parts are faster than the least
    with impatient.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (len(video) + 4 * RATE))
        for part in (video, *[bytes(RATE)] * 4):
            connection.sendall(part)
            time.sleep(0.5 * PATIENCE_SECONDS)
        assert read_answer(connection)[0] == 200


def test_a_video_in_chunks_of_one_byte(impatient: RunningServer, red_video: Path) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in red_video.read_bytes())
    with impatient.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks[:1000] + chunks[1000:] * 100)
        assert_answer(impatient, connection, 400)
        assert is_closed(connection)


def test_more_than_was_said_is_another_request(impatient: RunningServer, red_video: Path) -> None:
    video = red_video.read_bytes()
    with impatient.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(video) + video + b"\x00\x01lie\r\n\r\n")
        assert read_answer(connection)[0] == 200
        assert_answer(impatient, connection, 400)


def test_less_than_was_said(impatient: RunningServer, red_video: Path) -> None:
    before = num_descriptors(impatient)
    with impatient.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + red_video.read_bytes())
        impatient.wait_for_metric("afterframe_spool_bytes", red_video.stat().st_size)
    wait_until_nothing_is_left(impatient, before)


def test_chunks_that_are_none(impatient: RunningServer) -> None:
    with impatient.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nZZ\r\n")
        assert_answer(impatient, connection, 400)


@pytest.mark.parametrize(
    ("field", "detail"), [(b'name="file"; filename="a"', "more than one file"), (b'name="other"', "more than 8 fields")]
)
def test_thousands_of_parts(impatient: RunningServer, field: bytes, detail: str) -> None:
    before = num_descriptors(impatient)
    part = b"--x\r\nContent-Disposition: form-data; " + field + b"\r\n\r\nsome\r\n"
    body = part * 5000 + b"--x--\r\n"
    with impatient.client() as client:
        multipart = {"content-type": "multipart/form-data; boundary=x"}
        response = client.post("/classify", content=body, headers=multipart)
    assert response.status_code == 400
    assert detail in response.json()["detail"]
    wait_until_nothing_is_left(impatient, before)


def test_a_refused_body_that_goes_on_for_ever(impatient: RunningServer) -> None:
    with impatient.connect() as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000000\r\n\r\n")
        assert read_answer(connection)[0] == 404
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(connection)


def test_an_answer_that_is_taken_slowly(impatient: RunningServer) -> None:
    """For longer than patience lasts: a window of 4 KiB lets through some 75 KB a second here."""
    unread = 'afterframe_connections_ended_total{reason="unread"}'
    before = impatient.metric(unread)
    with impatient.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: here\r\n\r\n" * 1000)
        end = time.monotonic() + 4 * PATIENCE_SECONDS
        while time.monotonic() < end:
            assert connection.recv(4096)
        assert impatient.metric(unread) == before
        impatient.wait_for_metric(unread, before + 1)  # now it takes nothing


def test_a_stream_that_takes_nothing(impatient: RunningServer) -> None:
    unread = 'afterframe_connections_ended_total{reason="unread"}'
    before = impatient.metric(unread)
    with upgraded(impatient) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        longest_ping = b"\x89\xfd" + bytes(4) + bytes(125)
        connection.sendall(longest_ping * 80_000)
        impatient.wait_for_metric(unread, before + 1)


def test_a_stream_that_was_refused_and_goes_on_for_ever(impatient: RunningServer) -> None:
    lingering = 'afterframe_connections_ended_total{reason="lingering"}'
    before = impatient.metric(lingering)
    with upgraded(impatient) as connection:
        connection.sendall(b"\x82\xff" + (2**40).to_bytes(8) + bytes(4))
        with pytest.raises(ConnectionError):
            drip(connection)
    impatient.wait_for_metric(lingering, before + 1)


def test_headers_over_the_limit(impatient: RunningServer) -> None:
    for padding in (b"X-Padding: " + b"a" * 70_000 + b"\r\n", b"X: a\r\n" * 20_000):
        with impatient.connect() as connection:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n" + padding + b"\r\n")
            assert_answer(impatient, connection, 431)


def test_as_many_uploads_may_be_on_their_way(impatient: RunningServer, red_video: Path) -> None:
    with ExitStack() as opened:
        for _ in range(20):
            opened.enter_context(impatient.connect()).sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        impatient.wait_for_metric("afterframe_uploads_arriving", 20)
        with impatient.client() as client:
            response = client.post("/classify", content=red_video.read_bytes())
            assert (response.status_code, response.headers["retry-after"]) == (429, "1")
            assert client.get("/health/ready").status_code == 200
            impatient.wait_for_metric("afterframe_uploads_arriving", 0)  # patience ends
            client.post("/classify", content=red_video.read_bytes()).raise_for_status()


def test_the_connections_that_wait_longest_give_way(impatient: RunningServer) -> None:
    evicted = 'afterframe_connections_ended_total{reason="evicted"}'
    before = impatient.metric(evicted)
    with ExitStack() as opened:
        idle = [opened.enter_context(impatient.connect()) for _ in range(MAX_CONNECTIONS + 5)]
        idle[-1].sendall(b"GET /health/live HTTP/1.1\r\nHost: here\r\n\r\n")
        assert read_answer(idle[-1])[0] == 200
        assert all(is_closed(connection) for connection in idle[:5])
        assert impatient.metric(evicted) > before


def num_descriptors(server: RunningServer) -> int:
    """Open files and sockets of the server once it is at rest; what is spooled has no name, so only this shows it."""
    server.wait_for_metric("afterframe_uploads_arriving", 0)
    server.wait_for_metric("afterframe_requests_in_flight", 0)
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))  # noqa: PTH208  # a Path would open one


def wait_until_nothing_is_left(server: RunningServer, descriptors: int) -> None:
    end = time.monotonic() + 10
    while num_descriptors(server) > descriptors:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert server.metric("afterframe_spool_bytes") == 0


def test_many_uploads_that_stall_are_on_disk_and_not_in_memory(store: Path) -> None:
    part = bytes(2**20 - 2**14)  # less than is written at once
    head = HEAD + b"Content-Length: 100000000\r\n\r\n"
    with running_server(store, models="tiny") as server, ExitStack() as stack:
        before = server.memory_bytes()
        for _ in range(100):
            stack.enter_context(connection := server.connect())
            connection.sendall(head + part)
        server.wait_for_metric("afterframe_spool_bytes", 100 * len(part))
        # 46 to 61 MiB seen, by how busy the machine is: what may be unwritten, and what connections hold. Kept in
        # memory, what was sent would be 98 beside what connections hold.
        assert server.memory_bytes() - before < 80 * 2**20
