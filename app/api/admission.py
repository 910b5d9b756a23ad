"""Which uploads may come in, decided before their body is read: size and a free place. Pure ASGI.

FastAPI's dependencies run only after a multipart body has been read whole, too late to spare anything.
"""

import asyncio
from collections.abc import Sequence

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.body import Body, BodyLimits
from app.api.matching import is_for
from app.api.places import Places
from app.api.problems import send_problem
from app.errors import LengthRequired, MalformedRequest, NotReady, ServiceError, UnsupportedEncoding


class Admission:
    """Lets uploads in while there is room for them, none larger or slower than `limits`.

    Only requests whose body is worked on (`uploads`) need a place: health and metrics always answer.
    """

    def __init__(self, app: ASGIApp, uploads: Sequence[BaseRoute], places: Places, limits: BodyLimits) -> None:
        self.app = app
        self.uploads = uploads
        self.places = places
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_for(self.uploads, scope):
            await self.app(scope, receive, send)
            return
        try:
            _check_encoding(scope)
            self._check_length(scope)
            self.places.check_room()
        except ServiceError as error:
            await send_problem(error, scope, send)
            return
        await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_started = False

        async def send_noting(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        body = Body(receive, self.places, self.limits, scope["state"]["record"])
        try:
            async with body.arriving():
                try:
                    await body.begin()
                except ServiceError as error:
                    await send_problem(error, scope, send_noting)
                    return
                await self.app(scope, body.receive, send_noting)
        except asyncio.CancelledError:
            if self.places.is_stopping and not is_started:  # the grace is over, and the server would answer 500
                await send_problem(NotReady(), scope, send)
            raise

    def _check_length(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers:
            return
        length = headers.get(b"content-length")
        if length is None:
            raise LengthRequired("The request has no body: send the file with Content-Length or chunked.")
        if not length.isdigit():
            raise MalformedRequest("Content-Length is not a number.")
        if int(length) > self.limits.max_bytes:
            raise self.limits.too_large(f"The upload has {int(length)} bytes")


def _check_encoding(scope: Scope) -> None:
    for name, value in scope["headers"]:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedEncoding("The request has a Content-Encoding: send the file as it is.")
