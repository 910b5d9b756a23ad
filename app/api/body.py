"""The body of one upload as it arrives: no larger, no slower and in no more pieces than it may be."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from starlette.types import Message, Receive

from app.api.observe import RequestRecord
from app.api.places import Places
from app.errors import NotReady, ServiceError, TimeLimit, UploadTooLarge

OPENING_BYTES = 2**12
"""So much of an upload, or all of it, must have come before anything is set up for it: until then a slow client costs a
third of what it would cost otherwise."""
SPREAD = 0.2
"""Patience lasts up to this share longer, by chance: a thousand clients that come at once do not all end at once."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    max_bytes: int
    patience_seconds: float
    """The service waits this long for each `min_bytes_per_second * patience_seconds` bytes."""
    min_bytes_per_second: int

    def patience(self) -> float:
        """Seconds for one stretch of an upload, drawn anew each time: see SPREAD."""
        return self.patience_seconds * random.uniform(1.0, 1.0 + SPREAD)

    def too_large(self, fact: str) -> UploadTooLarge:
        return UploadTooLarge(f"{fact}; the limit is {self.max_bytes} bytes.")


class Body:
    """`receive` of an upload. It takes a place when the last byte has come."""

    def __init__(self, receive: Receive, places: Places, limits: BodyLimits, record: RequestRecord) -> None:
        self._receive = receive
        self._places = places
        self._limits = limits
        self._record = record
        self._patience_seconds = limits.patience()
        self._began = time.monotonic()
        self._num_bytes = 0  # since patience was whole
        self._first: Message | None = None
        self._waiting: asyncio.Timeout | None = None
        self._is_ended = False
        self._holds_place = False

    @asynccontextmanager
    async def arriving(self) -> AsyncIterator[None]:
        """While the request is answered; what it holds is given back when the context ends."""
        self._places.arriving.add(self.end)
        try:
            yield
        finally:
            self._places.arriving.discard(self.end)
            self._places.hold_bytes(-self._record.body_bytes)
            if self._holds_place:
                self._places.give_back()

    async def begin(self) -> None:
        """Waits for OPENING_BYTES; `receive` then gives them out as one message. Raises what `receive` does."""
        message = await self.receive()
        opening = bytearray(message.get("body", b""))
        while message.get("more_body", False) and len(opening) < OPENING_BYTES:
            message = await self.receive()
            opening += message.get("body", b"")
        self._first = {**message, "body": bytes(opening)}

    async def receive(self) -> Message:
        """The next message. Raises UploadTooLarge, TimeLimit, NotReady (see `end`) or Overloaded."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self.end not in self._places.arriving:  # it has come whole
            return await self._receive()
        try:
            return await self._next()
        except ServiceError as error:
            self._record.refusal = type(error).__name__
            raise

    def end(self) -> None:
        """Ends the upload: `receive` raises NotReady from now on, also where it is waiting."""
        self._is_ended = True
        if self._waiting is not None:
            with suppress(RuntimeError):  # its patience has just ended
                self._waiting.reschedule(-math.inf)

    async def _next(self) -> Message:
        message = await self._receive_in_time()
        num_bytes = len(message.get("body", b""))
        self._record.body_bytes += num_bytes
        self._places.hold_bytes(num_bytes)
        if self._record.body_bytes > self._limits.max_bytes:
            raise self._limits.too_large("The upload is larger than allowed")
        if not message.get("more_body", False):
            self._places.arriving.discard(self.end)
            if message["type"] == "http.request":
                self._places.take(time.monotonic() - self._began)
                self._holds_place = True
        return message

    async def _receive_in_time(self) -> Message:
        """The next message. Only the time that the client takes counts, not the time between two calls."""
        if self._is_ended:
            raise NotReady
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with asyncio.timeout(self._patience_seconds) as self._waiting:
                message = await self._receive()
        except TimeoutError as error:
            raise self._timed_out() from error
        finally:
            self._waiting = None
        self._patience_seconds -= clock() - started
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes >= self._limits.patience_seconds * self._limits.min_bytes_per_second:
            self._num_bytes, self._patience_seconds = 0, self._limits.patience()
        return message

    def _timed_out(self) -> ServiceError:
        if self._is_ended:
            return NotReady()
        seconds = self._limits.patience_seconds
        least = max(1, math.ceil(seconds * self._limits.min_bytes_per_second))
        return TimeLimit(f"{self._num_bytes} bytes came in {seconds:g} s; an upload must send {least} in that time.")
