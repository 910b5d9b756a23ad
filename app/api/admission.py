"""Who may come in, decided before the body is read: size and a free place. Pure ASGI.

FastAPI's dependencies run only after a multipart body has been read whole, too late to spare anything.
"""

import math
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import MEDIA_TYPE, problem_body, service_error_headers
from app.errors import LengthRequired, MalformedRequest, Overloaded, ServiceError, UploadTooLarge
from app.telemetry import Telemetry

SMOOTHING = 0.2  # weight of the newest request in the mean time of one, from which Retry-After is told


class Admission:
    """Lets at most `max_requests` uploads in at once, none larger than `max_upload_bytes`.

    Only requests with a body that is worked on (`paths`, POST) need a place: health and metrics always answer.
    """

    def __init__(
        self, app: ASGIApp, telemetry: Telemetry, paths: frozenset[str], max_requests: int, max_upload_bytes: int
    ) -> None:
        self.app = app
        self.telemetry = telemetry
        self.paths = paths
        self.max_requests = max_requests
        self.max_upload_bytes = max_upload_bytes
        self.in_flight = 0
        self.mean_seconds = 1.0
        telemetry.places.set(max_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in self.paths:
            await self.app(scope, receive, send)
            return
        try:
            self._admit(scope)
        except ServiceError as error:
            self.telemetry.rejections.labels(type(error).__name__).inc()
            await self._refuse(error, scope, send)
            return
        self._hold(+1)
        started = time.perf_counter()
        try:
            await self.app(scope, self._counted(receive, scope), send)
        finally:
            self._hold(-1)
            self.mean_seconds += SMOOTHING * (time.perf_counter() - started - self.mean_seconds)

    def _admit(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if b"transfer-encoding" not in headers:
            length = headers.get(b"content-length")
            if length is None:
                raise LengthRequired("The request has no body: send the file with Content-Length or chunked.")
            if not length.isdigit():
                raise MalformedRequest("Content-Length is not a number.")
            if int(length) > self.max_upload_bytes:
                raise self._too_large(f"The upload has {int(length)} bytes")
        if self.in_flight >= self.max_requests:
            wait = max(1, math.ceil(self.mean_seconds))
            raise Overloaded(f"All {self.max_requests} places are taken; come back in {wait} s.", wait)

    def _too_large(self, fact: str) -> UploadTooLarge:
        return UploadTooLarge(f"{fact}; the limit is {self.max_upload_bytes} bytes.")

    def _hold(self, change: int) -> None:
        self.in_flight += change
        self.telemetry.requests_in_flight.set(self.in_flight)

    def _counted(self, receive: Receive, scope: Scope) -> Receive:
        """`receive` that stops a chunked body at the limit, where no header told its length."""
        record = scope["state"]["record"]

        async def receive_counted() -> Message:
            message = await receive()
            record.body_bytes += len(message.get("body", b""))
            if record.body_bytes > self.max_upload_bytes:
                raise self._too_large("The upload is larger than allowed")
            return message

        return receive_counted

    async def _refuse(self, error: ServiceError, scope: Scope, send: Send) -> None:
        body = problem_body(error.status, error.title, str(error), scope["state"]["request_id"])
        headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **service_error_headers(error)}
        await send(
            {
                "type": "http.response.start",
                "status": error.status,
                "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": body})
