"""A client of /stream: the real `websockets` library, and pictures to send."""

import base64
import io
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from openapi_schema_validator import OAS31Validator
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from app.api.stream_schemas import message_schemas
from tests.server import RunningServer

MESSAGES = OAS31Validator(message_schemas()["server"])
WAIT_SECONDS = 60.0
KEYS = "k" * 32
MAX_MESSAGE_BYTES = 2**20
HANDSHAKE = (
    b"GET /stream HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def picture(frame: np.ndarray, kind: str = "PNG") -> bytes:
    """(H, W, 3) uint8 as JPEG, PNG or (lossless) WebP."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def token_of(message: dict[str, Any]) -> bytes:
    return base64.b64decode(message["state"])


class StreamClient:
    """One WebSocket, and what was said on it so far."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.welcome: dict[str, Any] = {}

    def say(self, message_type: str, /, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": message_type, **fields}))

    def start(self, **fields: Any) -> dict[str, Any]:
        """The welcome, or what was answered instead."""
        self.say("start", **fields)
        self.welcome = self.hear()
        return self.welcome

    def show(self, seconds: float, picture: bytes) -> None:
        self.socket.send(struct.pack("<d", seconds) + picture)

    def send(self, data: bytes) -> None:
        self.socket.send(data)

    def hear(self) -> dict[str, Any]:
        """The next text message, which is as the schema says."""
        message = self.socket.recv(WAIT_SECONDS)
        assert isinstance(message, str)
        found: dict[str, Any] = json.loads(message)
        MESSAGES.validate(found)
        return found

    def hear_bytes(self) -> bytes:
        message = self.socket.recv(WAIT_SECONDS)
        assert isinstance(message, bytes)
        return message

    def hear_steps(self, count: int) -> list[dict[str, Any]]:
        steps = [self.hear() for _ in range(count)]
        assert [step["type"] for step in steps] == ["step"] * count, steps
        return steps

    def end(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Says that there is no more: the steps that were still to come, and `done`."""
        self.say("end")
        steps = []
        while (message := self.hear())["type"] == "step":
            steps.append(message)
        assert message["type"] == "done", message
        assert self.close_code() == 1000
        return steps, message

    def close_code(self) -> int:
        """How the server closed; what it said before that is passed over."""
        try:
            while True:
                self.socket.recv(WAIT_SECONDS)
        except ConnectionClosed as closed:
            self.reason = closed.rcvd.reason if closed.rcvd else ""
            return closed.rcvd.code if closed.rcvd else 1006

    def cut(self) -> None:
        """Ends the connection without a word, as a broken network does."""
        self.socket.socket.close()


@contextmanager
def streaming(server: RunningServer, **query: str) -> Iterator[StreamClient]:
    """A connected client; `start` is yet to be said."""
    address = server.url.replace("http", "ws") + "/stream?" + "&".join(f"{key}={value}" for key, value in query.items())
    with connect(address, max_size=None) as socket:
        yield StreamClient(socket)


@contextmanager
def upgraded(server: RunningServer, path: str = "/stream") -> Iterator[socket.socket]:
    """A connection that is a WebSocket by now, for what no client would send."""
    with server.connect() as connection:
        connection.sendall(HANDSHAKE.replace(b"/stream", path.encode()))
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 ")
        yield connection
