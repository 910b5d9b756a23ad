"""Clients that vanish, whatever they are in the middle of: no file, descriptor, worker or place is left."""

import os
import socket
import struct
import time
from contextlib import ExitStack

import numpy as np
import pytest

from tests.media_maker import moving_frames, write_video
from tests.robustness import scale
from tests.server import RunningServer

HEAD = b"POST /classify?model=tiny-rate&timeline=true HTTP/1.1\r\nHost: here\r\n"
CANCELLED = 'afterframe_decoder_worker_restarts_total{reason="cancelled"}'
FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A minute."""
    frames = np.tile(moving_frames(60, 64, 48), (12, 1, 1, 1))
    return write_video(tmp_path_factory.mktemp("media") / "long.mp4", frames, 12).read_bytes()


def phases(video: bytes) -> dict[str, tuple[bytes, float | None]]:
    """What a client has sent when it leaves, and for how many seconds it stays after that.

    None: until it is worked on, which ends with the client and not before.
    """
    raw = HEAD + b"Content-Length: %d\r\n\r\n" % len(video)
    length = len(FORM) + len(video) + len(b"\r\n--x--\r\n")
    form = HEAD + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % length + FORM
    events = raw.replace(b"Host", b"Accept: application/x-ndjson\r\nHost")
    return {
        "connected": (b"", 0.0),
        "within the header": (HEAD, 0.0),
        "after the header": (raw, 0.01),
        "within the body": (raw + video[: len(video) // 2], 0.01),
        "within a form": (form + video[: len(video) // 2], 0.01),
        "within a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + video[:1000], 0.01),
        "before the last byte": (raw + video[:-1], 0.01),
        "at once after the last byte": (raw + video, 0.0),
        "while it is worked on": (raw + video, None),
        "within the events": (events + video, None),
    }


@pytest.mark.parametrize("times", [2, pytest.param(scale.DISCONNECTS, marks=pytest.mark.robustness)])
@pytest.mark.timeout(0)
def test_nothing_is_left_of_a_client_that_has_gone(server: RunningServer, long_video: bytes, times: int) -> None:
    logged = len(server.lines)
    with server.client() as client:
        client.post("/classify", content=long_video).raise_for_status()
    rest, idle = descriptors(server), idle_workers(server)
    stopped = server.metric(CANCELLED)
    longest = dict.fromkeys(phases(long_video), 0.0)
    for number in range(times):
        for name, (sent, stay_seconds) in phases(long_video).items():
            wait_for_idle_workers(server, idle)  # also those that have replaced others
            vanish(server, sent, stay_seconds, politely=number % 2 == 0)
            longest[name] = max(longest[name], seconds_until_free(server))
    assert server.metric(CANCELLED) >= stopped + 2 * times
    assert descriptors(server) <= rest
    assert server.metric("afterframe_spool_bytes") == 0
    assert not any(line.get("level") == "error" for line in server.lines[logged:])
    with server.client() as client:
        client.post("/classify", content=long_video).raise_for_status()
    print("\nfree after", {name: round(seconds, 3) for name, seconds in longest.items()})


def vanish(server: RunningServer, sent: bytes, stay_seconds: float | None, politely: bool) -> None:
    """Closes with a FIN, or with a reset, as a machine that falls over does."""
    with ExitStack() as stack:
        idle = idle_workers(server)
        if stay_seconds is None:
            stack.enter_context(server.workers_stopped())
        with server.connect() as connection:
            connection.sendall(sent)
            if stay_seconds is None:
                wait_for_idle_workers(server, idle - 1)
            else:
                time.sleep(stay_seconds)
            if not politely:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if stay_seconds is None:  # nothing is finished that could be given up instead
            server.wait_for_metric("afterframe_requests_in_flight", 0)


def idle_workers(server: RunningServer) -> float:
    metrics = server.metrics()
    return metrics["afterframe_decoder_workers_idle"] + metrics["afterframe_arriving_workers_idle"]


def wait_for_idle_workers(server: RunningServer, count: float) -> None:
    end = time.monotonic() + 30
    while idle_workers(server) != count:
        assert time.monotonic() < end


def seconds_until_free(server: RunningServer) -> float:
    began = time.monotonic()
    while not is_free(server.metrics()):
        assert time.monotonic() < began + 30
    return time.monotonic() - began


def is_free(metrics: dict[str, float]) -> bool:
    """By one scrape, which takes 20 ms and more."""
    held = metrics["afterframe_uploads_arriving"] + metrics["afterframe_requests_in_flight"]
    return not held and metrics["afterframe_decoder_workers_idle"] == metrics["afterframe_decoder_workers"]


def descriptors(server: RunningServer) -> int:
    """Open files and sockets at rest: what is spooled has no name, so that only this shows it."""
    seconds_until_free(server)
    end = time.monotonic() + 10
    counts = [len(os.listdir(f"/proc/{server.process.pid}/fd"))]  # noqa: PTH208  # a Path would open one
    while len(counts) < 3 or len(set(counts[-3:])) > 1:
        assert time.monotonic() < end
        time.sleep(0.1)
        counts.append(len(os.listdir(f"/proc/{server.process.pid}/fd")))  # noqa: PTH208
    return counts[-1]
