"""WebSocket /stream: pictures or encoded chunks in, an answer for each step out. docs/streams.md describes it."""

import time
from http import HTTPStatus

from fastapi import APIRouter, WebSocket
from pydantic import JsonValue

from app.api.service import service_of
from app.api.stream_connection import Connection
from app.api.stream_schemas import message_schemas
from app.api.stream_socket import PRIVATE, ClientLeftError
from app.telemetry import access_logger

PATH = "/stream"
INTERNAL_ERROR = 1011
KNOWN_CODES = frozenset(range(1000, 1016)).union(PRIVATE + status for status in HTTPStatus if status >= 400)
"""Close codes that metrics tell apart: the protocol's (RFC 6455, section 7.4.1) and those of problems. A client may
close with any other one up to 4999."""

router = APIRouter()


@router.get("/stream/schema", summary="The messages of the WebSocket /stream", tags=["stream"])
async def stream_schema() -> dict[str, JsonValue]:
    """JSON Schemas of what the client may send and of what the service answers; docs/streams.md explains them."""
    return message_schemas()


@router.websocket(PATH)
async def stream(websocket: WebSocket) -> None:
    """One client of one session."""
    service = service_of(websocket)
    connection = Connection(websocket, service.stream, service.telemetry)
    started = time.perf_counter()
    await websocket.accept()
    try:
        with service.stream.sessions.client():
            await connection.run()
    except ClientLeftError:
        await connection.leave()
    except BaseException:
        connection.socket.close_code = INTERNAL_ERROR
        await connection.discard()
        raise
    finally:
        code = connection.socket.close_code
        service.telemetry.stream_ends.labels(str(code) if code in KNOWN_CODES else "other").inc()
        fields = {
            "request_id": websocket.state.request_id,
            "trace_id": websocket.state.record.trace_id,
            "key": websocket.state.record.key,
            "route": PATH,
            "close_code": code,
            "seconds": round(time.perf_counter() - started, 4),
            **connection.summary(),
        }
        access_logger.info("stream", extra={"fields": fields})
