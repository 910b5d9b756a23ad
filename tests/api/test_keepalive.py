"""A client of a WebSocket that is there, but far ahead of who reads it; and one that is not."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from websockets.sync.client import connect

from app.api.protocol import ServingConfig

PING_SECONDS = 0.2
NUM_MESSAGES = 100


async def read_slowly(_scope: Scope, receive: Receive, send: Send) -> None:
    """Takes 5 s for what a client sends at once, and says so."""
    await receive()
    await send({"type": "websocket.accept"})
    for _ in range(NUM_MESSAGES):
        if (await receive())["type"] == "websocket.disconnect":
            return
        await asyncio.sleep(0.05)
    await send({"type": "websocket.send", "text": "all of it"})
    await receive()


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    settings = {"ws_ping_interval": PING_SECONDS, "ws_ping_timeout": PING_SECONDS, "port": 0, "log_config": None}
    server = uvicorn.Server(ServingConfig(read_slowly, 10.0, 10, lifespan="off", **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


def test_a_pong_behind_what_is_not_read_yet_is_waited_for(address: tuple[str, int]) -> None:
    host, port = address
    with connect(f"ws://{host}:{port}/", ping_interval=None) as client:
        for _ in range(NUM_MESSAGES):
            client.send(bytes(32_000))
        assert client.recv(timeout=30) == "all of it"


def test_who_is_not_heard_of_is_cut_off(address: tuple[str, int]) -> None:
    handshake = ["GET / HTTP/1.1", "Host: here", "Upgrade: websocket", "Connection: Upgrade"]
    handshake += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "", ""]
    with socket.create_connection(address, timeout=30) as silent:
        silent.sendall("\r\n".join(handshake).encode())
        told = b"".join(iter(lambda: silent.recv(4096), b""))
    assert told.startswith(b"HTTP/1.1 101 ")
    assert told.endswith(b"keepalive ping timeout")
