"""Request and response bodies. OpenAPI comes from here."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Rounded = Annotated[float, AfterValidator(lambda value: round(value, 6))]
"""More digits than six say nothing: answers agree to 1e-5."""


class Media(BaseModel):
    """What the upload turned out to be."""

    duration_seconds: Rounded | None
    width: int | None = Field(description="Pixels as displayed.")
    height: int | None
    frame_rate: Rounded | None = Field(description="Mean, frames per second.")
    video_codec: str | None
    audio_codec: str | None
    has_audio: bool


class ModelRef(BaseModel):
    """Which model answered."""

    name: str
    version: str
    digest: str = Field(description="SHA-256 of the model file.")
    license: str = Field(description="Terms of the data it was trained on.")


class Label(BaseModel):
    label: str
    score: Rounded = Field(ge=0, le=1)


class Segment(BaseModel):
    """[start_seconds, end_seconds) from the first displayed frame."""

    start_seconds: Rounded
    end_seconds: Rounded
    label: str
    score: Rounded = Field(ge=0, le=1, description="Mean over the segment.")


class Timing(BaseModel):
    """Where the time went."""

    queue_seconds: Rounded = Field(description="Waited for a decoder and for places in batches.")
    upload_seconds: Rounded
    decode_seconds: Rounded
    infer_seconds: Rounded = Field(description="Model calls this upload took part in; they overlap with decoding.")
    total_seconds: Rounded


class ClassifyResult(BaseModel):
    model: ModelRef
    labels: list[Label] = Field(description="Best first.")
    segments: list[Segment] | None = Field(description="With `timeline=true`.")
    frames_used: int = Field(description="Frames the labels were judged by.")
    sampling: Literal["exact", "fast"] = Field(description="`fast` falls back to `exact` where key frames are few.")


class ClassifyResponse(BaseModel):
    media: Media
    results: list[ClassifyResult] = Field(description="One per model, in the order asked.")
    timing: Timing

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "media": {
                    "duration_seconds": 3.0,
                    "width": 160,
                    "height": 120,
                    "frame_rate": 12.0,
                    "video_codec": "h264",
                    "audio_codec": None,
                    "has_audio": False,
                },
                "results": [
                    {
                        "model": {"name": "motion", "version": "1", "digest": "9f2c…", "license": "CC0-1.0"},
                        "labels": [{"label": "right", "score": 0.98}, {"label": "still", "score": 0.01}],
                        "segments": [{"start_seconds": 0.0, "end_seconds": 3.0, "label": "right", "score": 0.97}],
                        "frames_used": 12,
                        "sampling": "exact",
                    }
                ],
                "timing": {
                    "queue_seconds": 0.001,
                    "upload_seconds": 0.002,
                    "decode_seconds": 0.012,
                    "infer_seconds": 0.008,
                    "total_seconds": 0.024,
                },
            }
        }
    )


class ClassifyQuery(BaseModel):
    """Query of POST /classify. A name that is not here is refused: a typo should not pass in silence."""

    model_config = ConfigDict(extra="forbid")

    model: list[str] = Field(default=[], max_length=8, description="Repeatable: several models share one decode.")
    version: str | None = Field(default=None, description="A version of the one model asked for; the newest otherwise.")
    top_k: int = Field(default=5, ge=1, le=1000)
    min_score: float = Field(default=0.0, ge=0, le=1)
    timeline: bool = Field(default=False, description="Also answer segments.")
    start_seconds: float | None = Field(default=None, ge=0)
    end_seconds: float | None = Field(default=None, ge=0)
    sampling: Literal["exact", "fast"] = Field(default="exact", description="fast: nearest key frames, where enough.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.end_seconds is not None and self.end_seconds <= (self.start_seconds or 0.0):
            raise ValueError("end_seconds must be after start_seconds")
        if self.version is not None and len(self.model) > 1:
            raise ValueError("version goes with one model")
        return self


class ModelVersion(BaseModel):
    """The public part of a manifest."""

    version: str
    digest: str
    task: str
    summary: str
    labels: list[str]
    causal: bool = Field(description="Can judge step by step: timelines.")
    cell: str
    num_parameters: int
    metrics: dict[str, dict[str, float]] = Field(description="By test set, then by metric.")
    license: str
    date: str


class Model(BaseModel):
    """A served model; its newest version answers unless one is asked for."""

    name: str
    default: bool = Field(description="Answers when no model is asked for.")
    versions: list[ModelVersion] = Field(description="Newest first.")


class Models(BaseModel):
    models: list[Model]


class Health(BaseModel):
    status: Literal["live", "ready"]


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str = Field(description="Also in the log line and the header X-Request-ID.")
