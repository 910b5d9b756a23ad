"""The formats of an answer: which one a client wants, and the response in it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any

from anyio import to_thread
from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, TypeAdapter

from app.api.events import FORMATS, EventFormat, ProblemEvent
from app.api.openapi import SCHEMA_REFERENCE, header
from app.api.preference import PARTIAL_HEADER
from app.api.receive import Waiting
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

_PREFERENCE_HEADERS = {
    "Preference-Applied": header("Where `Prefer: wait=SECONDS` was complied with.", "wait=5"),
    PARTIAL_HEADER: header("Where time was up, and the answer is of what was known by then; not with events.", "true"),
}
_RESPONSE_HEADERS = {
    "Server-Timing": header("What `timing` says, in milliseconds; not with events.", "queue;dur=0.1, total;dur=24.0"),
    "X-Model": header("What `model` says; not with events.", "forecast@3"),
    "X-Model-License": header("Terms of the data it was trained on; not with events.", "CC-BY-4.0"),
}
"""Of `respond`."""


def wanted_format(request: Request, asked: str | None, offered: Iterable[str]) -> str:
    """The query's `format`, else the best of `offered` in the Accept header, else JSON.

    A client that accepts none of them gets JSON too, which RFC 9110 allows (section 12.5.1).
    """
    if asked is not None:
        return asked
    by_media_type = {MEDIA_TYPES[name]: name for name in offered}
    return by_media_type.get(_preferred(request, by_media_type) or "", JSON)


def event_format(request: Request, offered: Iterable[str] = (JSON,)) -> EventFormat | None:
    """The format of events that `request` prefers to those `offered`; None where it wants its answer whole."""
    preferred = _preferred(request, [*(MEDIA_TYPES[name] for name in offered), *FORMATS])
    return next((kind for kind in FORMATS if kind == preferred), None)


def _preferred(request: Request, offered: Iterable[str]) -> str | None:
    """The best of the media types `offered` by the Accept header (RFC 9110, section 12.5.1); None: it accepts none.

    The most precise range that a media type is in gives its weight. Of equals it is the most precisely named, then the
    first that is named, then the first that is offered.
    """
    weights: dict[str, float] = {}  # by range, in the order named
    for part in ",".join(request.headers.getlist("accept")).split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights.setdefault(media_range, _weight(parameters))
    named = list(weights)

    def merit(media_type: str) -> tuple[float, int, int]:
        for vagueness, media_range in enumerate((media_type, media_type.partition("/")[0] + "/*", "*/*")):
            if media_range in weights:
                return weights[media_range], -vagueness, -named.index(media_range)
        return 0.0, 0, 0

    best = max(offered, key=merit)
    return best if merit(best)[0] > 0 else None


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
    """The response whose body `encode` makes in a thread: where it holds Python's lock for long, all wait all the same.

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


def described(
    own_events: UnionType | type[BaseModel], offered: Sequence[str] = (), what: str = "", example: str = ""
) -> dict[int | str, dict[str, Any]]:
    """The 200 of a route for OpenAPI: JSON comes from its response model, the others are files, or events.

    `own_events`: beside those of every route. `example`: of CSV.
    """
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    text: dict[str, Any] = {"schema": {"type": "string"}, "example": example}
    files = {MEDIA_TYPES[name]: text if name == "csv" else binary for name in offered if name != JSON}
    event: Any = Annotated[own_events | Waiting | ProblemEvent, Field(discriminator="type")]
    schema = TypeAdapter(event).json_schema(mode="serialization", ref_template=SCHEMA_REFERENCE)
    schema["description"] = "Of each line, or of the data of each server-sent event; `result` or `problem` is the last."
    content = files | {kind: {"schema": schema} for kind in FORMATS}
    headers = _PREFERENCE_HEADERS | (_RESPONSE_HEADERS if offered else {})
    return {200: {"description": what, "content": content, "headers": headers}}
