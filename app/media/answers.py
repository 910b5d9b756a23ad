"""Reads what a decoder worker wrote and believes none of it.

A hostile file may have taken the decoder over. It can then answer wrongly, but it cannot run code here (nothing is
unpickled), nor make the service allocate more than the request is worth.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import ServiceError
from app.media.confinement import Layer
from app.media.frames import MAX_CHUNK_BYTES
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaLimits,
    MediaRequest,
    MediaSummary,
    Sampling,
    WaveformChunk,
    WaveformSpec,
)
from app.media.wire import ERRORS

MAX_HEADER_BYTES = 1 << 14

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_MAX_SECONDS = 1e13
"""FFmpeg counts microseconds in 64 bits: headers of damaged files claim up to 9.2e12 s."""
_Seconds = Annotated[float, Field(ge=0, lt=_MAX_SECONDS)]
_Codec = Annotated[str, Field(pattern=r"^[a-z0-9_.]{1,32}$")]


class AnswerError(Exception):
    """A message that an honest worker does not send."""


@dataclass(slots=True)
class Given:
    """What has come of one job so far."""

    frames: Counter[int] = field(default_factory=Counter)
    """By spec."""
    reached: dict[int, float] = field(default_factory=dict)
    """The time of the last of them."""
    samples: Counter[int] = field(default_factory=Counter)
    """By spec."""


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Ready(_Header):
    type: Literal["ready"]
    layers: tuple[Layer, ...]


class _Frames(_Header):
    type: Literal["frames"]
    spec: _Count
    shape: tuple[_Count, _Count, _Count, Literal[3]]
    decode_seconds: _Seconds


class _Waveform(_Header):
    type: Literal["waveform"]
    spec: _Count
    start_seconds: Annotated[float, Field(gt=-_MAX_SECONDS, lt=_MAX_SECONDS)]
    decode_seconds: _Seconds


class _Info(_Header):
    type: Literal["info"]
    duration_seconds: _Seconds | None
    width: _Count | None
    height: _Count | None
    frame_rate: _Seconds | None
    video_codec: _Codec | None
    audio_codec: _Codec | None
    has_audio: bool


class _Summary(_Header):
    type: Literal["summary"]
    duration_seconds: _Seconds
    frames_decoded: _Count
    frames_skipped: _Count
    sampling: Sampling
    queue_seconds: _Seconds
    decode_seconds: _Seconds
    while_uploading: bool


class _Error(_Header):
    type: Literal["error"]
    error: Literal["InvalidMedia", "MediaTooLarge", "UnsupportedMedia"]
    message: Annotated[str, Field(max_length=500, pattern=r"^[ -~]*$")]
    is_spent: bool


_AnyHeader = Annotated[_Ready | _Frames | _Waveform | _Info | _Summary | _Error, Field(discriminator="type")]
_HEADER: TypeAdapter[_Ready | _Frames | _Waveform | _Info | _Summary | _Error] = TypeAdapter(_AnyHeader)


class Answer:
    """One message, once its header is read and found to be one that `request` may be answered with."""

    def __init__(self, text: bytes, body_bytes: int, request: MediaRequest, limits: MediaLimits) -> None:
        """Raises AnswerError for any other."""
        try:
            self._header = _HEADER.validate_json(text)
        except ValidationError as error:
            raise AnswerError("a header that is none") from error
        self._request = request
        self._limits = limits
        if body_bytes != self._expected_bytes(body_bytes, limits):
            raise AnswerError("a body of another size")

    @property
    def layers(self) -> tuple[Layer, ...] | None:
        """What confines the worker, where it says that it is ready."""
        return self._header.layers if isinstance(self._header, _Ready) else None

    @property
    def is_spent(self) -> bool:
        """Whether the worker wants to be replaced."""
        return isinstance(self._header, _Error) and self._header.is_spent

    def event(self, body: NDArray[np.uint8], given: Given) -> MediaEvent | ServiceError:
        """The event, or the error that stands for the end of it; the arrays are views of `body`.

        `given` is brought up to date. Raises AnswerError for more than the job can come to, or what cannot be.
        """
        header = self._header
        if isinstance(header, _Frames):
            split = header.shape[0] * 8
            frames, times = body[split:].reshape(header.shape), body[:split].view("<f8")
            before = np.append(given.reached.get(header.spec, 0.0), times[:-1])
            if not (times >= before).all() or times[-1] >= _MAX_SECONDS:
                raise AnswerError("times that fall, or are none")
            given.reached[header.spec] = float(times[-1])
            given.frames[header.spec] += len(frames)
            if given.frames[header.spec] > self._most_frames(self._request.frames[header.spec]):
                raise AnswerError("more frames than there can be")
            return FrameChunk(header.spec, frames, times, decode_seconds=header.decode_seconds)
        if isinstance(header, _Waveform):
            waveform = body.view("<f4")
            if not np.isfinite(waveform).all():
                raise AnswerError("a sample that is not a number")
            given.samples[header.spec] += len(waveform)
            if given.samples[header.spec] > self._most_samples(self._request.waveforms[header.spec]):
                raise AnswerError("more sound than there can be")
            return WaveformChunk(header.spec, waveform, header.start_seconds, decode_seconds=header.decode_seconds)
        if isinstance(header, _Error):
            return ERRORS[header.error](header.message)
        if isinstance(header, _Ready):
            raise AnswerError("ready within a job")
        fields = header.model_dump(exclude={"type"})
        return MediaInfo(**fields) if isinstance(header, _Info) else MediaSummary(**fields)

    def _most_frames(self, spec: FrameSpec) -> float:
        if self._request.source == "pictures":
            return self._request.num_pictures
        return spec.clip_length or self._limits.max_duration_seconds * spec.rate + 1

    def _most_samples(self, spec: WaveformSpec) -> float:
        """Sound may begin as long before the picture as it lasts after that; and resampling rounds."""
        return (2 * self._limits.max_duration_seconds + 1) * spec.sample_rate

    def _expected_bytes(self, body_bytes: int, limits: MediaLimits) -> int:
        header = self._header
        if isinstance(header, _Frames) and header.spec < len(self._request.frames):
            length, height, width, channels = header.shape
            frame_bytes = height * width * channels
            if _fits(self._request.frames[header.spec], height, width, limits):
                spec = self._request.frames[header.spec]
                most = min(spec.chunk_length, max(1, MAX_CHUNK_BYTES // max(1, frame_bytes)))
                return length * (8 + frame_bytes) if 0 < length <= most else -1
            return -1
        if isinstance(header, _Waveform) and header.spec < len(self._request.waveforms):
            most = self._request.waveforms[header.spec].chunk_samples * 4
            return body_bytes if 0 < body_bytes <= most and body_bytes % 4 == 0 else -1
        return -1 if isinstance(header, _Frames | _Waveform) else 0


def _fits(spec: FrameSpec, height: int, width: int, limits: MediaLimits) -> bool:
    """Whether a frame of this size can answer `spec`."""
    if spec.width and spec.fit != "keep":
        return (width, height) == (spec.width, spec.height)
    longest = spec.longest_side or max(spec.width, spec.height)
    return (
        width > 0 and height > 0 and (max(width, height) <= longest if longest else width * height <= limits.max_pixels)
    )
