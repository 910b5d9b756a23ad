"""Bodies and queries that several routes share; what one route alone has stands beside it. OpenAPI comes from here."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from app.media.request import MediaInfo
from app.models.store import ServedModel

Rounded = Annotated[float, AfterValidator(lambda value: round(value, 6) + 0.0)]
"""More digits than six say nothing: answers agree to 1e-5. Nor does the sign of -0.0."""


def rounded(values: NDArray[np.floating]) -> list[Any]:
    """The values as lists of such numbers, nested as the axes are."""
    numbers: list[Any] = (np.round(values.astype(np.float64), 6) + 0.0).tolist()
    return numbers


class Media(BaseModel):
    """What the upload turned out to be; /stream/steps leaves out fields that are null."""

    duration_seconds: Rounded | None = None
    width: int | None = Field(default=None, description="Pixels as displayed.")
    height: int | None = None
    frame_rate: Rounded | None = Field(default=None, description="Mean, frames per second.")
    video_codec: str | None = None
    audio_codec: str | None = None
    has_audio: bool

    @classmethod
    def of(cls, media: MediaInfo) -> Self:
        return cls.model_validate(media, from_attributes=True)


class ModelRef(BaseModel):
    """Which model answered."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the model file.")
    license: str = Field(description="Terms of the data it was trained on.")

    @classmethod
    def of(cls, model: ServedModel) -> Self:
        manifest = model.manifest
        return cls(name=manifest.name, version=manifest.version, digest=model.digest, license=manifest.license)


class Label(BaseModel):
    label: str
    score: Rounded = Field(ge=0, le=1)


class Timing(BaseModel):
    """Where the time went."""

    queue_seconds: Rounded = Field(description="Waited for a decoder and for places in batches.")
    upload_seconds: Rounded
    decode_seconds: Rounded
    infer_seconds: Rounded = Field(
        description="Sum over the model calls that this upload took part in. They overlap with decoding and with one "
        "another, so it may exceed the total."
    )
    total_seconds: Rounded = Field(description="Until the answer is there to be encoded.")
    decoded_while_uploading: bool = Field(
        default=False, description="False where the file came at once, or had to be complete to be read."
    )


class UploadQuery(BaseModel):
    """Query of every route that takes an upload. Unknown names are refused, so that typos do not pass."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(default=None, description="A version of the one model asked for; the newest otherwise.")
    start_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    end_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    @property
    def is_whole(self) -> bool:
        """No part was asked for."""
        return self.start_seconds is None and self.end_seconds is None

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end_seconds is not None and round(self.end_seconds, 6) <= round(self.start_seconds or 0.0, 6):
            raise ValueError("end_seconds must be after start_seconds, by a microsecond at least")
        return self


class Health(BaseModel):
    status: Literal["live"]


class Readiness(BaseModel):
    """`degraded` is ready too: requests are answered, and `faults` says what the operator should repair."""

    status: Literal["ready", "degraded"]
    faults: list[str]


class InvalidParameter(BaseModel):
    parameter: str = Field(default="", description="Absent where the message is about several parameters together.")
    message: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str = Field(description="Also in the log line and the header X-Request-ID.")
    errors: list[InvalidParameter] = Field(default=[], description="Present where the query is malformed.")

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:afterframe:problem:malformed-request",
                "title": "Malformed request",
                "status": 400,
                "detail": "top_k: Input should be greater than or equal to 1",
                "request_id": "4f1c8a0b9d3e2f67",
                "errors": [{"parameter": "top_k", "message": "Input should be greater than or equal to 1"}],
            }
        }
    )


EXAMPLE_VIDEO: dict[str, JsonValue] = {
    "duration_seconds": 3.0,
    "width": 160,
    "height": 120,
    "frame_rate": 12.0,
    "video_codec": "h264",
    "audio_codec": None,
    "has_audio": False,
}
EXAMPLE_TIMING: dict[str, JsonValue] = {
    "queue_seconds": 0.001,
    "upload_seconds": 0.002,
    "decode_seconds": 0.012,
    "infer_seconds": 0.008,
    "total_seconds": 0.024,
    "decoded_while_uploading": False,
}
