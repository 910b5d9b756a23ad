"""The formats of an answer: which one a client wants, and the response in it."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anyio import to_thread
from fastapi import Request
from fastapi.responses import Response

from app.api.events import EVENT_CONTENT
from app.api.schemas import ModelRef, Timing
from app.api.service import Service

JSON = "json"
MEDIA_TYPES = {
    JSON: "application/json",
    "mp4": "video/mp4",
    "gif": "image/gif",
    "npz": "application/x-npz",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}


def wanted_format(request: Request, asked: str | None, offered: Iterable[str]) -> str:
    """The query's `format`, else the best of `offered` in the Accept header, else JSON.

    A client that accepts none of them gets JSON too, which RFC 9110 allows (section 12.5.1).
    """
    if asked is not None:
        return asked
    by_media_type = {"*/*": JSON, **{MEDIA_TYPES[name]: name for name in offered}}
    accepted: list[tuple[float, str]] = []
    for part in request.headers.get("accept", "").split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type in by_media_type:
            accepted.append((_weight(parameters), by_media_type[media_type]))
    best = max(accepted, key=lambda entry: entry[0], default=(0.0, JSON))  # the first of equals
    return best[1] if best[0] > 0 else JSON


def _weight(parameters: list[str]) -> float:
    """`q` of an Accept header's part."""
    for parameter in parameters:
        if found := re.fullmatch(r"q=(0(?:\.[0-9]{1,3})?|1(?:\.0{1,3})?)", parameter):
            return float(found[1])
    return 1.0


async def respond(
    service: Service,
    encode: Callable[[], bytes],
    format_name: str,
    model: ModelRef,
    timing: Timing,
    more_headers: Mapping[str, str],
) -> Response:
    """The response whose body `encode` makes, off the event loop.

    What JSON says of model and time is in the headers of all formats: Server-Timing (W3C) in milliseconds.
    """
    body = await to_thread.run_sync(encode, limiter=service.encoders)
    stages = {
        "queue": timing.queue_seconds,
        "upload": timing.upload_seconds,
        "decode": timing.decode_seconds,
        "infer": timing.infer_seconds,
        "total": timing.total_seconds,
    }
    headers = {
        "Vary": "Accept",
        "Server-Timing": ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in stages.items()),
        "X-Model": f"{model.name}@{model.version}",
        "X-Model-License": " ".join(model.license.encode("ascii", "replace").decode().split()),
        **more_headers,
    }
    return Response(body, headers=headers, media_type=MEDIA_TYPES[format_name])


def described(offered: Iterable[str], what: str, example: str = "") -> dict[int | str, dict[str, Any]]:
    """The 200 of a route for OpenAPI: JSON comes from its response model, the others are files, or events.

    `example`: of CSV.
    """
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    text: dict[str, Any] = {"schema": {"type": "string"}, "example": example}
    content = {MEDIA_TYPES[name]: text if name == "csv" else binary for name in offered if name != JSON}
    return {200: {"description": what, "content": content | EVENT_CONTENT["content"]}}
