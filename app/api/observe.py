"""Outermost: gives each request its id and trace, times it, writes its one log line. Pure ASGI."""

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry import Telemetry, access_logger

# https://www.w3.org/TR/trace-context/#versioning-of-traceparent: ff is no version, and those to come may say more.
TRACEPARENT = re.compile(
    r"^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:$|(?<!^00.{53})-)"
)
REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
WITH_HEADERS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})


@dataclass(slots=True)
class RequestRecord:
    """What the log line and the histograms say of one request; handlers add to it as they learn it."""

    trace_id: str
    status: int = 500
    body_bytes: int = 0
    media_seconds: float = 0.0
    models: tuple[str, ...] = ()
    key: str = ""
    """The name of the API key it came with."""
    refusal: str = ""
    """The error that it was refused with, where nothing was done for it."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""

    def work_seconds(self, seconds: float) -> float:
        """Of the `seconds` that the request took, those after the last byte of its upload.

        But at least what decoding took: that may happen while the upload is still coming.
        """
        return max(seconds - self.stages.get("upload", 0.0), self.stages.get("decode", 0.0))


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


class Observe:
    """Puts `request_id` and `record` into `scope["state"]` and reports both when the answer has gone.

    A WebSocket that is accepted reports itself when it closes.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, routes: Sequence[BaseRoute]) -> None:
        """`routes`: of the application, to name in what is reported."""
        self.app = app
        self.telemetry = telemetry
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        asked = _header(scope, b"x-request-id")
        request_id = asked if REQUEST_ID.match(asked) else secrets.token_hex(8)
        trace = TRACEPARENT.match(_header(scope, b"traceparent"))
        record = RequestRecord(trace_id=trace[1] if trace else secrets.token_hex(16))
        scope.setdefault("state", {}).update(request_id=request_id, record=record)
        started = time.perf_counter()
        reports_itself = False

        async def send_with_id(message: Message) -> None:
            nonlocal reports_itself
            if message["type"] in WITH_HEADERS:
                record.status = message.get("status", record.status)
                reports_itself = message["type"] == "websocket.accept"
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            if not reports_itself:
                self._report(scope, request_id, record, time.perf_counter() - started)

    def _report(self, scope: Scope, request_id: str, record: RequestRecord, seconds: float) -> None:
        route = self._route_of(scope)
        method = scope.get("method", "GET")
        method = method if method in METHODS else "other"  # a client may call its method anything
        telemetry = self.telemetry
        if record.refusal:
            telemetry.rejections.labels(record.refusal).inc()
        telemetry.request_seconds.labels(method, route, str(record.status)).observe(seconds)
        for stage, stage_seconds in record.stages.items():
            telemetry.stage_seconds.labels(route, stage).observe(stage_seconds)
        if record.media_seconds:
            telemetry.media_seconds.labels(route).inc(record.media_seconds)
            telemetry.realtime_factor.labels(route).observe(record.media_seconds / record.work_seconds(seconds))
        fields = {
            "request_id": request_id,
            "trace_id": record.trace_id,
            "method": method,
            "route": route,
            "status": record.status,
            "seconds": round(seconds, 4),
            "body_bytes": record.body_bytes,
            "stages": {stage: round(value, 4) for stage, value in record.stages.items()},
            "models": record.models,
            "key": record.key,
        }
        access_logger.info("request", extra={"fields": fields})

    def _route_of(self, scope: Scope) -> str:
        """The path of the route that answered, or would have answered had the request not been refused before.

        With its parameters by name, as `/models/{name}`, so that there are only as many values as routes.
        """
        found = scope.get("route") or next(
            (route for route in self.routes if route.matches(scope)[0] is not Match.NONE), None
        )
        return getattr(found, "path", UNMATCHED)
