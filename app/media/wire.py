"""Messages between the service and a decoder worker, over a socket pair.

A message is two lengths, a JSON header and a body of raw numbers. This side writes; `app.media.answers` reads what a
worker wrote and believes none of it.
"""

import json
import struct
from dataclasses import asdict
from typing import Any

import numpy as np

from app.errors import InvalidMedia, MediaTooLarge, ServiceError, UnsupportedMedia
from app.media.confinement import Layer
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaLimits,
    MediaRequest,
    WaveformChunk,
    WaveformSpec,
)

LENGTHS = struct.Struct("<II")
"""Bytes of the header, bytes of the body."""

ERRORS: dict[str, type[ServiceError]] = {
    error.__name__: error for error in (InvalidMedia, MediaTooLarge, UnsupportedMedia)
}
"""What a worker may answer instead of a MediaSummary."""


def encode_job(request: MediaRequest, limits: MediaLimits) -> bytes:
    """The message that asks for `request`; the file's descriptor travels with it."""
    return b"".join(_message({"request": asdict(request), "limits": asdict(limits)}))


def decode_job(header: bytes) -> tuple[MediaRequest, MediaLimits]:
    """What `encode_job` was given. Only for what comes from the service."""
    job = json.loads(header)
    request = job["request"]
    request["frames"] = tuple(FrameSpec(**spec) for spec in request["frames"])
    request["waveforms"] = tuple(WaveformSpec(**spec) for spec in request["waveforms"])
    return MediaRequest(**request), MediaLimits(**job["limits"])


def encode_event(event: MediaEvent) -> list[bytes | memoryview]:
    """The message for one event, in parts, so that frames and samples are not copied again."""
    if isinstance(event, FrameChunk):
        header = {"type": "frames", "spec": event.spec, "shape": event.frames.shape}
        body = (_bytes(event.times, "<f8"), _bytes(event.frames, "u1"))
        return _message({**header, "decode_seconds": event.decode_seconds}, *body)
    if isinstance(event, WaveformChunk):
        header = {"type": "waveform", "spec": event.spec, "start_seconds": event.start_seconds}
        return _message({**header, "decode_seconds": event.decode_seconds}, _bytes(event.waveform, "<f4"))
    return _message({"type": "info" if isinstance(event, MediaInfo) else "summary", **asdict(event)})


def encode_error(error: ServiceError, is_spent: bool = False) -> list[bytes | memoryview]:
    """The message for one of ERRORS; `is_spent`: the worker ran out of memory and should be replaced."""
    return _message({"type": "error", "error": type(error).__name__, "message": str(error), "is_spent": is_spent})


def encode_ready(layers: tuple[Layer, ...]) -> list[bytes | memoryview]:
    """The first message of a worker: it may be given a job, and is confined by `layers`."""
    return _message({"type": "ready", "layers": layers})


def _message(header: dict[str, Any], *body: memoryview) -> list[bytes | memoryview]:
    text = json.dumps(header).encode()
    return [LENGTHS.pack(len(text), sum(part.nbytes for part in body)), text, *body]


def _bytes(array: np.ndarray[Any, Any], kind: str) -> memoryview:
    return np.ascontiguousarray(array, kind).reshape(-1).view(np.uint8).data
