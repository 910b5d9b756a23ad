"""What uvicorn does on the wire, with an end to its patience and a problem for every refusal.

uvicorn waits for ever: for a header, for the rest of a body that has been answered, for a client to take what it is
sent. Here each of these has `patience_seconds`, and there are no more than `max_connections`.
"""

import asyncio
import fcntl
import random
import secrets
import struct
import termios
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode
from websockets.http11 import Response
from websockets.server import ServerProtocol

from app.api.body import SPREAD
from app.api.observe import UNMATCHED
from app.api.problems import MEDIA_TYPE, problem_body
from app.api.strict import MAX_HEADER_BYTES, StrictConnection
from app.telemetry import access_logger

MALFORMED = "Malformed request"


class ServingConfig(uvicorn.Config):
    """uvicorn's settings and ours."""

    def __init__(
        self,
        app: Callable[..., Any],
        patience_seconds: float,
        min_bytes_per_second: int,
        max_connections: int,
        **settings: Any,
    ) -> None:
        super().__init__(
            app, http=HttpProtocol, ws=StreamProtocol, h11_max_incomplete_event_size=MAX_HEADER_BYTES, **settings
        )
        self.patience_seconds = patience_seconds
        self.min_bytes_per_second = min_bytes_per_second
        """That a client takes of an answer, on average over each `patience_seconds`."""
        self.max_connections = max_connections
        self.idle: dict[HttpProtocol, None] = {}
        """Connections without a request, the one that has waited longest first."""


class Impatient(asyncio.Protocol):
    """Cuts off a client that takes too little of what it is sent. Before one of uvicorn's protocols."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    config: ServingConfig
    app_state: dict[str, Any]
    _taking: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.resume_writing()
        self._stop_watching()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():  # else the client has still to take the rest
            self._stop_watching()

    def _watch_taking(self) -> None:
        self._stop_watching()
        self._taking = self.loop.call_later(self.config.patience_seconds, self._check_taking, self._num_untaken())

    def _check_taking(self, before: int) -> None:
        seconds, rate = self.config.patience_seconds, self.config.min_bytes_per_second
        if before - self._num_untaken() < max(1.0, seconds * rate):
            self._end("unread")
        else:
            self._watch_taking()

    def _num_untaken(self) -> int:
        """Bytes sent and not yet acknowledged, those that the kernel holds (tcp(7), SIOCOUTQ) included."""
        connection = self.transport.get_extra_info("socket")
        (queued,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
        return int(queued) + self.transport.get_write_buffer_size()

    def _stop_watching(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _end(self, reason: str) -> None:
        self.app_state["service"].telemetry.connections_ended.labels(reason).inc()
        self.transport.abort()


class HttpProtocol(Impatient, H11Protocol):
    """One connection."""

    config: ServingConfig

    def __init__(
        self,
        config: ServingConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn = self.strict = StrictConnection(h11.SERVER, MAX_HEADER_BYTES)
        self._patience: asyncio.TimerHandle | None = None
        self._has_begun = False  # to send a header

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn's own ignore says as much
        self.config.idle[self] = None
        self._wait_for(self._header_late)
        if len(self.connections) > self.config.max_connections:
            oldest = next(iter(self.config.idle))
            oldest._end("evicted")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._unset_keepalive_if_required()  # uvicorn does so only where the connection ended without an error
        self.config.idle.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._has_begun = False
            self.config.idle.pop(self, None)
            if not (self.cycle and self.cycle.response_complete):
                self._stop_waiting()
        elif not self.transport.is_closing():
            self._has_begun = True
            self.config.idle.setdefault(self)
            if self._patience is None:
                self._wait_for(self._header_late)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self.config.idle.setdefault(self)
        elif self.cycle.response_complete:  # they go on with a body that nobody will read
            self._wait_for(lambda: self._end("lingering"))

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_taking()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        self.config.idle.pop(self, None)
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        status = self.strict.refusal.error_status_hint if self.strict.refusal else HTTPStatus.BAD_REQUEST
        self.app_state["service"].telemetry.connections_ended.labels("malformed").inc()
        self._refuse(HTTPStatus(status), "What was sent is not HTTP/1.1 within this service's limits.")

    def _header_late(self) -> None:
        if not self._has_begun:
            self._end("idle")
            return
        self.app_state["service"].telemetry.connections_ended.labels("header").inc()
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"No header came within {self.config.patience_seconds:g} s.")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answers what the application does not see, or only in part, and closes."""
        request_id = None
        if self.cycle is not None and not self.cycle.response_complete:
            request_id = self.cycle.scope["state"].get("request_id")  # it logs this, too
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            title = MALFORMED if status == HTTPStatus.BAD_REQUEST else status.phrase
            body = problem_body(status, title, detail, request_id or log_refusal(status))
            headers = [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            answer = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._stop_waiting()
        self.transport.close()
        self._watch_taking()

    def _wait_for(self, then: Callable[[], None]) -> None:
        self._stop_waiting()
        seconds = self.config.patience_seconds * random.uniform(1.0, 1.0 + SPREAD)
        self._patience = self.loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _end(self, reason: str) -> None:
        self.config.idle.pop(self, None)
        super()._end(reason)


class ProblemServerProtocol(ServerProtocol):
    """Refuses handshakes with problems."""

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        status = HTTPStatus(status)
        response = super().reject(status, text)
        detail = "The service failed." if status >= 500 else "This is no opening handshake of a WebSocket."
        response.body = problem_body(status, MALFORMED if status == 400 else status.phrase, detail, log_refusal(status))
        del response.headers["Content-Length"], response.headers["Content-Type"]
        response.headers["Content-Length"] = str(len(response.body))
        response.headers["Content-Type"] = MEDIA_TYPE
        return response


class StreamProtocol(Impatient, WebSocketsSansIOProtocol):
    """One WebSocket."""

    config: ServingConfig

    def __init__(self, config: ServingConfig, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.conn = ProblemServerProtocol(max_size=config.ws_max_size, logger=self.logger)
        self.conn.debug = False  # else it logs every header, with the key, and every message, with its state
        self._heard = self.loop.time()  # the last time that something came

    def keepalive_timeout(self) -> None:
        """Ends only who is silent: the pong of a client that sends faster than it is read lies behind all that."""
        assert self.ping_timeout is not None
        if self.read_paused or self.loop.time() - self._heard < self.ping_timeout:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        else:
            code = CloseCode.INTERNAL_ERROR  # as `super` tells the client, but not the application
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code})
            super().keepalive_timeout()

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        if self.conn.parser_exc is None:  # else it has been told so
            super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # No handshake, or one that is too long: uvicorn would neither answer it nor end it.
            answer = b"".join(self.conn.data_to_send()) or self.conn.reject(HTTPStatus.BAD_REQUEST, "").serialize()
            self.transport.write(answer)
            self.transport.close()

    def handle_parser_exception(self) -> None:
        """Tells the client by a close frame, and takes what it still sends: a connection that is closed with bytes
        unread is reset, and the frame lost."""
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.write_eof()
        self.transport.resume_reading()
        self.close_sent = True
        self.close_timer = self.loop.call_later(self.config.patience_seconds, self._end, "lingering")

    async def send(self, message: Any) -> None:
        try:
            await super().send(message)
        except RuntimeError as error:
            if self.close_sent:  # from down here, of which the application has not heard yet
                raise ClientDisconnected from error
            raise
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True  # else uvicorn takes a refusal for none, and logs an error


def log_refusal(status: HTTPStatus) -> str:
    """Logs what was refused before any route could be; the id of its line."""
    request_id = secrets.token_hex(8)
    fields = {"request_id": request_id, "route": UNMATCHED, "status": int(status)}
    access_logger.info("request", extra={"fields": fields})
    return request_id
