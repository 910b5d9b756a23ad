"""The WebSocket below a stream: who is still there, and who is not any more."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.sync.client import connect

from app.api.protocol import ServingConfig
from app.api.stream_schemas import Rewound
from app.api.stream_socket import NORMAL, ClientLeftError, StreamSocket
from tests.streaming import HANDSHAKE

PING_SECONDS = 0.2  # until a ping, and for its pong
NUM_MESSAGES = 60
TAKING_SECONDS = 0.02  # for each message: for all of them six times what a pong has


@contextmanager
def serving(
    taking_seconds: float = TAKING_SECONDS, ping_seconds: float = PING_SECONDS, ends: list[int] | None = None
) -> Iterator[int]:
    """The port of a server with our protocol, which takes its time over each message, as a model does, and counts.

    Into `ends` go the codes with which clients are said to have left.
    """

    async def counting(scope: dict, receive, send) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        try:
            for number in range(1, NUM_MESSAGES + 1):
                await websocket.receive_bytes()
                await asyncio.sleep(taking_seconds)
                await websocket.send_text(str(number))
        except WebSocketDisconnect as left:
            if ends is not None:
                ends.append(left.code)

    config = ServingConfig(
        counting,
        patience_seconds=10.0,
        min_bytes_per_second=2**14,
        max_connections=10,
        port=0,
        lifespan="off",
        log_config=None,
        ws_per_message_deflate=False,
        ws_max_size=2**20,
        ws_ping_interval=ping_seconds,
        ws_ping_timeout=ping_seconds,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def test_who_sends_ahead_is_not_taken_for_dead():
    """Its pongs stand behind what has not been taken yet."""
    with serving() as port, connect(f"ws://127.0.0.1:{port}", ping_interval=None) as client:
        for _ in range(NUM_MESSAGES):
            client.send(bytes(2**16))
        assert [int(client.recv(10)) for _ in range(NUM_MESSAGES)] == list(range(1, NUM_MESSAGES + 1))


def test_who_answers_no_ping_is_ended():
    ends: list[int] = []
    with serving(ends=ends) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(HANDSHAKE)
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        heard = b"".join(iter(lambda: client.recv(1000), b""))
    assert heard[:2] == b"\x89\x04"  # a ping
    assert heard[6] == 0x88
    assert int.from_bytes(heard[8:10]) == 1011
    assert ends == [1011]  # the log and the metrics say what the client was told


def test_what_would_still_be_answered_to_whom_the_server_closes_is_no_fault(caplog: pytest.LogCaptureFixture):
    patient = serving(taking_seconds=1.0, ping_seconds=60.0)
    with patient as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(HANDSHAKE)
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
        client.sendall(b"\x82\x80" + bytes(4))  # worked on while there comes
        time.sleep(0.1)
        client.sendall(b"\x82\xff" + (2**30).to_bytes(8) + bytes(4))  # the head of one that is too long
        assert int.from_bytes(client.recv(1000)[2:4]) == 1009
        time.sleep(1.2)
    assert not [record.message for record in caplog.records if record.levelname == "ERROR"]


def test_what_waited_to_be_said_until_the_socket_was_closed_finds_nobody():
    async def nothing(message: object = None) -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def talk() -> None:
        websocket = WebSocket({"type": "websocket", "headers": []}, nothing, nothing)
        await websocket.accept()
        stream = StreamSocket(websocket, idle_seconds=1.0)
        await stream.close(NORMAL, "")
        with pytest.raises(ClientLeftError):
            await stream.send(Rewound(sequence=1, seconds=0.5, received=2))

    asyncio.run(talk())
