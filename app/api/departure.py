"""Ends the work for a client that has left. Pure ASGI.

Frameworks let a request run to its end, whoever is still there to read the answer. Here its task is cancelled, and
with it go its place, its decoder, and what waits for a model.
"""

import asyncio
from collections.abc import Sequence

from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.matching import is_for

CLIENT_LEFT = 499
"""The status in the log line and the metrics, as nginx has it: nothing is answered."""


class Departure:
    """Watches for the client's departure once the body of a request has been read; only for `uploads`."""

    def __init__(self, app: ASGIApp, uploads: Sequence[BaseRoute]) -> None:
        self.app = app
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_for(self.uploads, scope):
            await self.app(scope, receive, send)
            return
        body_read, answered = asyncio.Event(), False

        async def receive_watched() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                body_read.set()
            return message

        async def send_watched(message: Message) -> None:
            nonlocal answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        request = asyncio.current_task()
        assert request is not None
        has_left = False

        async def watch() -> None:
            nonlocal has_left
            await body_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            if not answered:
                has_left = True
                request.cancel()

        watching = asyncio.create_task(watch())
        try:
            await self.app(scope, receive_watched, send_watched)
        except asyncio.CancelledError:
            if not has_left:
                raise
            request.uncancel()
            scope["state"]["record"].status = CLIENT_LEFT
        finally:
            watching.cancel()
