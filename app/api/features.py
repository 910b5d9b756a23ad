"""POST /features."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.events import Emit, Event, EventResponse
from app.api.features_files import as_csv, as_npz, as_parquet
from app.api.features_json import in_json, vectors_in_json, windows_in_json
from app.api.formats import event_format, respond, wanted_format
from app.api.openapi import UPLOAD, UPLOAD_PROBLEMS, described
from app.api.preference import applied, wait_preference
from app.api.receive import receive
from app.api.schemas import EXAMPLE_TIMING, EXAMPLE_VIDEO, Media, ModelRef, Rounded, Timing, UploadQuery, rounded
from app.api.service import service_of
from app.errors import MalformedRequest
from app.pipelines.features import Features, FeaturesOptions, Level

PATH = "/features"
router = APIRouter(tags=["features"])

Format = Literal["json", "npz", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("json", "npz", "csv", "parquet")
TABLES = {"csv": as_csv, "parquet": as_parquet}
DEFAULT_WINDOW_SECONDS = 1.0
MAX_WINDOW_SECONDS = 300.0  # the steps of one window are kept


class FeaturesQuery(UploadQuery):
    """Query of POST /features."""

    model: str | None = None
    level: Level = Field(default="clip", description="What to answer beside the vector of the whole clip.")
    window_seconds: float | None = Field(
        default=None,
        ge=0.01,
        le=MAX_WINDOW_SECONDS,
        description=f"With `level=windows`: length of one; default {DEFAULT_WINDOW_SECONDS:g}.",
    )
    hop_seconds: float | None = Field(
        default=None,
        ge=0.01,
        le=MAX_WINDOW_SECONDS,
        description="With `level=windows`: from one to the next; by default they do not overlap.",
    )
    log_mel: bool = Field(default=False, description="Also answer the log-mel spectrogram (json, npz).")
    format: Format | None = Field(default=None, description="Else the Accept header decides, else it is JSON.")

    @model_validator(mode="after")
    def _windows_are_asked_for(self) -> Self:
        if self.level != "windows" and (self.window_seconds, self.hop_seconds) != (None, None):
            raise ValueError("window_seconds and hop_seconds need level=windows")
        return self


class Window(BaseModel):
    """[start_seconds, end_seconds). Its features are the mean of the steps that begin in it; where it is too short for
    that, they are those of the step it lies in. The first window that reaches the end of the sound is the last."""

    start_seconds: Rounded
    end_seconds: Rounded
    features: list[float]


class FeaturesResponse(BaseModel):
    media: Media
    model: ModelRef
    start_seconds: Rounded = Field(
        description="When the sound starts, counted from the first displayed frame where there is a picture."
    )
    end_seconds: Rounded
    dimension: int = Field(description="Numbers in `clip`.")
    clip: list[float] = Field(description="One vector for all of the sound.")
    step_dimension: int = Field(description="Numbers in a step and in a window.")
    hop_seconds: Rounded = Field(description="Step k begins at `start_seconds` + k `hop_seconds`.")
    steps: list[list[float]] | None = Field(description="With `level=steps`.")
    windows: list[Window] | None = Field(description="With `level=windows`.")
    log_mel: list[list[float]] | None = Field(description="With `log_mel=true`: rows of mel bands, low to high.")
    log_mel_hop_seconds: Rounded
    partial: bool = Field(
        default=False, description="With `Prefer: wait=SECONDS`: time was up, and this covers what was heard by then."
    )
    timing: Timing

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "media": {**EXAMPLE_VIDEO, "audio_codec": "aac", "has_audio": True},
                "model": {"name": "audio-features", "version": "1", "digest": "c41e…", "license": "CC-BY-SA-4.0"},
                "start_seconds": 0.0,
                "end_seconds": 3.0,
                "dimension": 4,
                "clip": [0.12, -0.4, 0.031, 0.9],
                "step_dimension": 2,
                "hop_seconds": 0.04,
                "steps": None,
                "windows": [{"start_seconds": 0.0, "end_seconds": 1.0, "features": [0.1, 0.2]}],
                "log_mel": None,
                "log_mel_hop_seconds": 0.01,
                "partial": False,
                "timing": EXAMPLE_TIMING,
            }
        }
    )


class FeaturesProgress(BaseModel):
    """An event on the way."""

    type: Literal["progress"] = "progress"
    seconds: Rounded = Field(description="Of sound read so far.")
    steps: list[list[float]] | None = Field(description="With `level=steps`: the vectors since the event before.")


class FeaturesFinal(FeaturesResponse):
    """The last event: the whole answer."""

    type: Literal["result"] = "result"


@router.post(
    PATH,
    summary="What a sound is like, in numbers",
    openapi_extra=UPLOAD,
    response_model=FeaturesResponse,
    responses={
        **UPLOAD_PROBLEMS,
        **described(
            FeaturesProgress | FeaturesFinal,
            FORMATS,
            "JSON; CSV in the form of openSMILE's Python package (`file,start,end,…`, a row for the clip, each step or "
            "each window); Parquet with the same rows, times as durations; npz: `clip` and, as asked, `steps`, "
            "`windows`, each with `…_starts` and `…_ends`, and `log_mel`.",
            "file,start,end,feature_0,feature_1\nclip.wav,0 days,0 days 00:00:03.250000,0.12,-0.4\n",
        ),
    },
)
async def features(request: Request, query: Annotated[FeaturesQuery, Query()]) -> Response:
    """A vector of the sound of a file, with or without pictures: of all of it, of each step, or of windows.

    Send the file as for /classify. Sound of any rate and number of channels is mixed and resampled as the model wants.
    An hour takes no more memory than a minute; an answer with too many numbers is refused with 422. With `Accept:
    application/x-ndjson` or `text/event-stream` steps come as they are known, and the whole answer last. With `Prefer:
    wait=SECONDS` work stops after that many seconds; the answer then covers what was heard so far, and has
    `"partial": true`.
    """
    kind = event_format(request, FORMATS) if query.format is None else None
    chosen = wanted_format(request, query.format, FORMATS)
    if kind is None and query.log_mel and chosen in TABLES:
        raise MalformedRequest(f"{chosen} has no place for log_mel, whose rows differ: ask for json or npz.")
    wait_seconds = wait_preference(request)
    if kind is None:
        answer, file_name, timing = await _features(request, query, wait_seconds, None)
        return await respond(
            service_of(request),
            lambda: _encode(answer, chosen, file_name, timing),
            chosen,
            ModelRef.of(answer.model),
            timing,
            applied(wait_seconds, is_partial=answer.is_partial),
        )

    async def in_events(emit: Emit) -> Event:
        answer, _, timing = await _features(request, query, wait_seconds, emit)
        return lambda: _as_json(FeaturesFinal, answer, timing)

    return EventResponse(request, kind, in_events, applied(wait_seconds))


async def _features(
    request: Request, query: FeaturesQuery, wait_seconds: int | None, emit: Emit | None
) -> tuple[Features, str, Timing]:
    """The answer and the file's name; with `emit`, events on the way, and all the time that a stream may take."""
    service = service_of(request)
    model = service.store.get(query.model, query.version, "features")
    window_seconds = query.window_seconds or DEFAULT_WINDOW_SECONDS
    options = FeaturesOptions(query.level, window_seconds, query.hop_seconds or window_seconds, query.log_mel)
    async with receive(request, [model], emit, on_arrival=query.is_whole) as received:
        upload = received.upload(query, in_events=emit is not None, wait_seconds=wait_seconds)
        on_progress = None if emit is None else _Teller(emit, query.level)
        answer = await service.features.run(upload, model, options, on_progress)
    return answer, received.file_name, received.report(answer.cost)


class _Teller:
    """Emits what has been heard since the last time."""

    def __init__(self, emit: Emit, level: Level) -> None:
        self.emit = emit
        self.level = level
        self.num_told = 0

    def __call__(self, seconds: float, parts: Sequence[NDArray[np.float32]]) -> None:
        self.emit(lambda: self._event(seconds, parts))

    def _event(self, seconds: float, parts: Sequence[NDArray[np.float32]]) -> Event:
        fresh = parts[self.num_told :]
        self.num_told = len(parts)
        event = FeaturesProgress(seconds=seconds, steps=None)
        return event if self.level != "steps" else lambda: in_json(event, steps=vectors_in_json(*fresh))


def _encode(answer: Features, chosen: str, file_name: str, timing: Timing) -> bytes:
    if chosen == "npz":
        return as_npz(answer)
    if chosen in TABLES:
        return TABLES[chosen](answer, file_name)
    return _as_json(FeaturesResponse, answer, timing)


def _as_json(kind: type[FeaturesResponse], answer: Features, timing: Timing) -> bytes:
    facts = kind(
        media=Media.of(answer.media),
        model=ModelRef.of(answer.model),
        start_seconds=answer.clip.starts[0],
        end_seconds=answer.clip.ends[0],
        dimension=answer.output.dimension,
        clip=rounded(answer.clip.features[0]),
        step_dimension=answer.output.step_dimension,
        hop_seconds=answer.output.hop_seconds,
        steps=None,
        windows=None,
        log_mel=None,
        log_mel_hop_seconds=answer.output.log_mel_hop_seconds,
        partial=answer.is_partial,
        timing=timing,
    )
    return in_json(
        facts,
        steps=None if answer.steps is None else vectors_in_json(answer.steps.features),
        windows=None if answer.windows is None else windows_in_json(answer.windows),
        log_mel=None if answer.log_mel is None else vectors_in_json(answer.log_mel),
    )
