"""The socket of one client of /stream: messages in and out, and how it closes."""

import asyncio
import math
from contextlib import suppress
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnected

from app.api.stream_messages import PICTURE_HEADER, ClientMessage, encode_state, read_message
from app.api.stream_schemas import Done, State, Step
from app.errors import MalformedRequest, NotReady, Overloaded, ServiceError, TimeLimit

NORMAL, ABNORMAL, SERVICE_RESTART, TRY_AGAIN_LATER = 1000, 1006, 1012, 1013
"""https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number"""
PRIVATE = 4000
"""Every other error closes with this plus its HTTP status."""
TAKEN_OVER = PRIVATE + 409
FINAL = frozenset({NORMAL, 1002, 1003, 1007, 1008, 1009})
"""A client that closes, or is closed, with one of these will not come back for its session."""
REASON_BYTES = 123  # what a close frame has room for


class ClientLeftError(Exception):
    """The socket is closed, or the client takes nothing any more."""


class StreamSocket:
    """Speaks version 1 of the schema. Raises ClientLeftError wherever the client has left."""

    def __init__(self, websocket: WebSocket, idle_seconds: float) -> None:
        self._websocket = websocket
        self.idle_seconds: float | None = idle_seconds
        """How long a client may send nothing; None: for ever."""
        self.binary_states = False
        """Tokens are binary messages of their own."""
        self.close_code = ABNORMAL
        """How it ended."""
        self.is_closed = False
        """From here, which `receive` reports like a client that leaves."""
        self._is_lost = False  # nothing can be sent any more
        self._left_with: int | None = None  # code; None: not heard of so far
        self._sending = asyncio.Lock()  # a token follows its answer at once

    async def receive(self) -> ClientMessage | bytes:
        """The client's next message. Raises TimeLimit where none comes for too long, MalformedRequest."""
        try:
            async with asyncio.timeout(self.idle_seconds):
                message = await self._websocket.receive()
        except TimeoutError as error:
            raise TimeLimit(f"Nothing was sent for {self.idle_seconds:g} s.") from error
        if message["type"] == "websocket.disconnect":
            self._left_with = message.get("code", ABNORMAL)
            raise ClientLeftError
        text: str | None = message.get("text")
        if text is not None:
            return read_message(text)
        data: bytes = message["bytes"]
        return data

    async def how_client_left(self) -> int:
        """The code with which it closed. What it had sent before, and nobody took, is passed over."""
        while self._is_lost and self._left_with is None:
            with suppress(ClientLeftError, ServiceError):
                await self.receive()
        return ABNORMAL if self._left_with is None else self._left_with

    async def send(self, message: BaseModel) -> None:
        async with self._sending:
            await self._send_text(message)

    async def send_with_state(self, message: Step | State | Done, token: bytes | None) -> None:
        """`message` with the token, or followed by it."""
        if token is not None and not self.binary_states:
            message.state = encode_state(token)
            token = None
        async with self._sending:
            await self._send_text(message)
            if token is not None:
                await self._send({"type": "websocket.send", "bytes": token})

    async def close(self, code: int, reason: str) -> None:
        self.close_code = code
        text = reason.encode()[:REASON_BYTES].decode(errors="ignore")
        await self._send({"type": "websocket.close", "code": code, "reason": text})
        self.is_closed = True

    async def _send_text(self, message: BaseModel) -> None:
        await self._send({"type": "websocket.send", "text": message.model_dump_json(exclude_none=True)})

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._websocket.send(message)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:  # by the client, or from here a moment ago
            self._is_lost = True
            raise ClientLeftError from error


def close_code(error: ServiceError) -> int:
    """The code with which a socket closes for `error`."""
    if isinstance(error, Overloaded):
        return TRY_AGAIN_LATER
    return SERVICE_RESTART if isinstance(error, NotReady) else PRIVATE + error.status


def split_picture(message: bytes) -> tuple[float, bytes]:
    """(seconds, picture) of a binary message; raises MalformedRequest."""
    if len(message) <= PICTURE_HEADER.size:
        raise MalformedRequest("A binary message is the time of a picture, 8 bytes, and the picture.")
    (seconds,) = PICTURE_HEADER.unpack_from(message)
    if not math.isfinite(seconds):
        raise MalformedRequest("The time of a picture is not a number.")
    return seconds, message[PICTURE_HEADER.size :]
