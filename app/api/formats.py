"""The formats of an answer: which one a client wants, and the response in it."""

import re
from collections.abc import Callable, Iterable, Mapping

from anyio import to_thread
from fastapi import Request
from fastapi.responses import Response

from app.api.events import FORMATS, EventFormat
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


def answer_headers(timing: Timing) -> dict[str, str]:
    """Of an answer in one piece, in any format: what it was chosen by, and where the time went (Server-Timing, W3C)."""
    stages = {
        "queue": timing.queue_seconds,
        "upload": timing.upload_seconds,
        "decode": timing.decode_seconds,
        "infer": timing.infer_seconds,
        "total": timing.total_seconds,
    }
    times = ", ".join(f"{stage};dur={1000 * seconds:.1f}" for stage, seconds in stages.items())
    return {"Vary": "Accept", "Server-Timing": times}


async def respond(
    service: Service,
    encode: Callable[[], bytes],
    format_name: str,
    model: ModelRef,
    timing: Timing,
    more_headers: Mapping[str, str],
) -> Response:
    """The response whose body `encode` makes in a thread, which should not hold Python's lock for long: all would wait.

    Headers say in every format what JSON says of model and time: Server-Timing (W3C) in milliseconds.
    """
    body = await to_thread.run_sync(encode, limiter=service.encoders)
    headers = {
        **answer_headers(timing),
        "X-Model": f"{model.name}@{model.version}",
        "X-Model-License": " ".join(model.license.encode("ascii", "replace").decode().split()),
        **more_headers,
    }
    return Response(body, headers=headers, media_type=MEDIA_TYPES[format_name])
