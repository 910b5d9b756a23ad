"""An answer in events, as they come about: JSON lines, or server-sent events."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Literal

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.problems import refusal_of
from app.api.service import service_of
from app.api.stream_schemas import Problem

EventFormat = Literal["application/x-ndjson", "text/event-stream"]
FORMATS: tuple[EventFormat, ...] = ("application/x-ndjson", "text/event-stream")

Emit = Callable[[BaseModel], None]


class ProblemEvent(Problem):
    """The last event, where something went wrong after the first."""


async def answer_in_events(
    request: Request,
    kind: EventFormat,
    work: Callable[[Emit], Awaitable[BaseModel]],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """What `work` emits, each as it is emitted, then what it returns; with `headers` besides its own.

    Raises what `work` raises before its first event; an error after that is the last event.
    """
    events: asyncio.Queue[BaseModel | None] = asyncio.Queue()
    started = time.perf_counter()

    async def run() -> None:
        try:
            events.put_nowait(await work(events.put_nowait))
        finally:
            events.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        first = await events.get()
        if first is None:
            await task
    except BaseException:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    first_seconds = service_of(request).telemetry.first_result_seconds
    first_seconds.labels(request.scope["route"].path).observe(time.perf_counter() - started)

    async def lines() -> AsyncIterator[bytes]:
        event = first
        try:
            while event is not None:
                yield _line(kind, event)
                event = await events.get()
            try:
                await task
            except Exception as error:  # noqa: BLE001 - the head has gone out: only an event can tell the client now
                refusal = refusal_of(error, request.state.request_id)
                yield _line(kind, ProblemEvent(title=refusal.title, status=refusal.status, detail=str(refusal)))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return _EventResponse(lines(), kind, headers or {})


class _EventResponse(Response):
    """Sends lines as they come. Starlette's own looks for the client's departure with `receive`, and would take away
    what is still to come of the body; `app.api.departure` looks after that."""

    def __init__(self, lines: AsyncIterator[bytes], kind: EventFormat, headers: Mapping[str, str]) -> None:
        super().__init__(media_type=kind, headers={"Cache-Control": "no-store", **headers})
        del self.headers["content-length"]
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for line in self._lines:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _line(kind: EventFormat, event: BaseModel) -> bytes:
    text = event.model_dump_json()
    return f"data: {text}\n\n".encode() if kind == "text/event-stream" else f"{text}\n".encode()
