"""Every error as problem+json (RFC 9457), in the one place that knows how."""

import errno
import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from app.api.headers import OutermostResponse
from app.errors import (
    InvalidStateToken,
    KeyRequired,
    NotReady,
    OutOfResources,
    OutOfStorage,
    Overloaded,
    ServiceError,
    TimeLimit,
    UnknownRoute,
    UnsupportedEncoding,
)

MEDIA_TYPE = "application/problem+json"
FACTS = {404: str(UnknownRoute()), 405: "This path does not take this method; the header Allow lists those it takes."}
"""Details by status for the errors that Starlette raises itself; its own are no more than the title again."""
MAX_ERRORS = 16
"""Errors of one query that a problem lists: a client may make as many as its header has room for."""
MAX_NAME_LENGTH = 64
"""Characters of a parameter's name that a problem repeats: the name may be of the client's making."""

logger = logging.getLogger("afterframe.problems")


def problem_body(
    status: int, title: str, detail: str, request_id: str, *, errors: list[dict[str, str]] | None = None
) -> bytes:
    """The JSON of one problem; its `type` is stable and derived from the title."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    body: dict[str, Any] = {
        "type": f"urn:afterframe:problem:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if errors:
        body["errors"] = errors
    return json.dumps(body).encode()


def service_error_headers(error: ServiceError) -> dict[str, str]:
    """Headers that go with an error: when to come back, how to send a key or a body, or that the connection closes."""
    match error:
        case Overloaded():
            return {"Retry-After": str(error.retry_after_seconds)}
        case UnsupportedEncoding():
            return {"Accept-Encoding": "identity"}  # RFC 9110, section 12.5.3
        case KeyRequired():
            return {"WWW-Authenticate": "Bearer"}
        case InvalidStateToken():
            return {"WWW-Authenticate": "Afterframe-State"}  # RFC 9110, section 15.5.2: each 401 names what it is about
        case TimeLimit() | NotReady():
            return {"Connection": "close"}
    return {}


def invalid_value(where: Sequence[object], message: str) -> dict[str, str]:
    """One of pydantic's errors as a problem lists it; without `parameter` where it is about several together."""
    told = {"message": message.removeprefix("Value error, ")}
    name = ".".join(map(str, where))[:MAX_NAME_LENGTH]
    return {"parameter": name, **told} if name else told


def in_words(error: Mapping[str, str]) -> str:
    """One entry of a problem's `errors` as text, for its `detail`."""
    return ": ".join(error.values())


def complaint(error: ValidationError) -> str:
    """The first thing that is wrong with what a client sent, in words."""
    first = error.errors()[0]
    return in_words(invalid_value(first["loc"], first["msg"]))


async def send_problem(error: ServiceError, scope: Scope, send: Send) -> None:
    """Refuses a request, or a WebSocket, with `error` from outside of the application."""
    scope["state"]["record"].refusal = type(error).__name__
    body = problem_body(error.status, error.title, str(error), scope["state"]["request_id"])
    headers = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), **service_error_headers(error)}
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send(
        {
            "type": f"{kind}.start",
            "status": error.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": f"{kind}.body", "body": body})


def refusal_of(error: Exception, request_id: str) -> ServiceError:
    """What a client is told of `error`; nothing of what is inside: the log line with the request id has that."""
    if isinstance(error, ServiceError):
        return error
    fields = {"fields": {"request_id": request_id}}
    if (refusal := _lacking(error)) is not None:
        logger.error("%s", error or type(error).__name__, extra=fields)
        return refusal
    logger.error("internal error", exc_info=error, extra=fields)
    return ServiceError("The service failed; the request id finds it in the log.")


def _lacking(error: Exception) -> ServiceError | None:
    """The problem for an `error` of a machine that has run out of something; None for any other."""
    if not isinstance(error, OSError | MemoryError):
        return None
    number = error.errno if isinstance(error, OSError) else errno.ENOMEM
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return OutOfStorage("The service has no room to take the upload in.")
    if number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return OutOfResources("The service has no memory or file handles left for this request.")
    return None


def _respond(request: Request, status: int, title: str, detail: str, **more: Any) -> Response:
    request_id = request.scope.get("state", {}).get("request_id", "")
    headers = more.pop("headers", None)
    return Response(problem_body(status, title, detail, request_id, **more), status, headers, MEDIA_TYPE)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return _respond(request, error.status, error.title, str(error), headers=service_error_headers(error))


async def _http_exception(request: Request, error: Exception) -> Response:
    """Errors that Starlette raises itself: no such route, the wrong method."""
    assert isinstance(error, HTTPException)
    title = HTTPStatus(error.status_code).phrase
    detail = FACTS.get(error.status_code, str(error.detail))
    return _respond(request, error.status_code, title, detail, headers=error.headers)


async def _invalid_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [invalid_value(entry["loc"][1:], entry["msg"]) for entry in error.errors()]
    errors, num_more = found[:MAX_ERRORS], len(found) - MAX_ERRORS
    detail = "; ".join([*map(in_words, errors), *([f"and {num_more} more"] if num_more > 0 else [])])
    return _respond(request, 400, "Malformed request", detail, errors=errors)


async def _exhausted(request: Request, error: Exception) -> Response:
    if _lacking(error) is None:
        raise error
    return await _service_error(request, refusal_of(error, request.scope["state"]["request_id"]))


async def _internal_error(request: Request, error: Exception, origins: Collection[str]) -> Response:
    request_id = request.scope.get("state", {}).get("request_id", "")
    refusal = refusal_of(error, request_id)
    # uvicorn closes the connection after what Starlette raises again; a client must not send its next request there.
    headers = {"X-Request-Id": request_id, "Connection": "close"}
    body = problem_body(refusal.status, refusal.title, str(refusal), request_id)
    response = OutermostResponse(body, refusal.status, headers, MEDIA_TYPE)
    response.origins = origins
    return response


def install(app: FastAPI, origins: Collection[str] = ()) -> None:
    """Registers the handlers on `app`, of which pages of `origins` may read the answers."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _invalid_query)
    app.add_exception_handler(OSError, _exhausted)
    app.add_exception_handler(MemoryError, _exhausted)
    app.add_exception_handler(Exception, partial(_internal_error, origins=origins))
