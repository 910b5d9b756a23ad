"""An answer in events, each sent as soon as it is known: JSON lines, or server-sent events."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Literal

from anyio import to_thread
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.problems import refusal_of
from app.api.service import service_of
from app.api.stream_schemas import Problem

EventFormat = Literal["application/x-ndjson", "text/event-stream"]
FORMATS: tuple[EventFormat, ...] = ("application/x-ndjson", "text/event-stream")

Event = BaseModel | Callable[[], bytes]
"""For a large event, the function that makes its JSON off the event loop."""

Emit = Callable[[Callable[[], Event | None]], None]
"""Takes a function that makes the next event out of all that was not told yet, or None where nothing is new.

That function is called when the client is ready for the event, and not at all where a newer one has replaced it: for a
client that is behind nothing piles up.
"""


class Waiting(BaseModel):
    """An event: nothing can be said before the whole file has arrived."""

    type: Literal["waiting"] = "waiting"
    detail: str


class ProblemEvent(Problem):
    """The last event, where something went wrong after the first."""


class EventResponse(Response):
    """Sends what `work` emits, then what it returns. An error after the first event is sent as the last event.

    Starlette's StreamingResponse watches for the client's departure with `receive`, and would swallow what is still to
    come of the body; `app.api.departure` takes care of that here.
    """

    def __init__(
        self,
        request: Request,
        kind: EventFormat,
        work: Callable[[Emit], Awaitable[Event]],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        at_once = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"}  # nginx would hold it back
        super().__init__(media_type=kind, headers={**at_once, **(headers or {})})
        del self.headers["content-length"]
        self._request = request
        self._kind = kind
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        has_begun = False
        async with aclosing(self._lines()) as lines:  # wherever this ends, the work ends with it
            async for line in lines:
                if not has_begun:
                    has_begun = True
                    first_seconds = service_of(self._request).telemetry.first_result_seconds
                    first_seconds.labels(scope["route"].path).observe(time.perf_counter() - started)
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncGenerator[bytes]:
        newest: deque[Callable[[], Event | None]] = deque(maxlen=1)
        news = asyncio.Event()

        def emit(make: Callable[[], Event | None]) -> None:
            newest.append(make)
            news.set()

        async def run() -> Event:
            try:
                return await self._work(emit)
            finally:
                news.set()

        task = asyncio.create_task(run())
        has_begun = False
        try:
            while newest or not task.done():
                await news.wait()
                news.clear()
                if newest and (event := newest.pop()()) is not None:
                    line = await self._line(event)
                    has_begun = True
                    yield line
            yield await self._line(await task)
        except Exception as error:
            if not has_begun:
                raise
            # The head has gone out: only an event can tell the client now.
            refusal = refusal_of(error, self._request.state.request_id)
            yield _line(self._kind, ProblemEvent(title=refusal.title, status=refusal.status, detail=str(refusal)))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _line(self, event: Event) -> bytes:
        if isinstance(event, BaseModel):
            return _line(self._kind, event)
        return await to_thread.run_sync(_line, self._kind, event, limiter=service_of(self._request).encoders)


def _line(kind: EventFormat, event: Event) -> bytes:
    text = event.model_dump_json().encode() if isinstance(event, BaseModel) else event()
    return b"data: " + text + b"\n\n" if kind == "text/event-stream" else text + b"\n"
