"""POST /predict."""

import base64
import io
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.events import Emit, Event, EventResponse
from app.api.formats import event_format, respond, wanted_format
from app.api.openapi import UPLOAD, UPLOAD_PROBLEMS, described
from app.api.preference import applied, wait_preference
from app.api.receive import receive
from app.api.schemas import EXAMPLE_TIMING, EXAMPLE_VIDEO, Media, ModelRef, Rounded, Timing, UploadQuery
from app.api.service import service_of
from app.errors import MalformedRequest
from app.media.encode import encode_gif, encode_mp4, encode_png, mark_predicted
from app.models.manifest import PredictOutput
from app.models.store import ServedModel
from app.pipelines.predict import Forecast, PredictOptions
from app.pipelines.surprise import EDGE_SHARE, MERGED_SECONDS, PEAK_DEVIATIONS, SMALLEST_RISE, SurpriseCurve

PATH = "/predict"
router = APIRouter(tags=["predict"])

Format = Literal["json", "mp4", "gif", "npz"]
FORMATS: tuple[Format, ...] = ("json", "mp4", "gif", "npz")
DEFAULT_HORIZON = 10
MAX_HORIZON = 120  # of any manifest


class PredictQuery(UploadQuery):
    """Query of POST /predict."""

    model: str | None = None
    horizon: int | None = Field(
        default=None,
        ge=1,
        le=MAX_HORIZON,
        description=f"Frames to predict, at the model's rate; at most its `max_horizon`. Default: {DEFAULT_HORIZON}.",
    )
    at_seconds: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="The forecast goes on from the frame that is on display then; by default from the last one.",
    )
    surprise: bool = Field(default=False, description="Also compare every frame with its forecast.")
    start_seconds: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="With `surprise=true`: where the curve begins."
    )
    end_seconds: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="With `surprise=true`: where the curve ends."
    )
    format: Format | None = Field(default=None, description="Else the Accept header decides, else it is JSON.")

    @model_validator(mode="after")
    def _part_of_a_curve(self) -> Self:
        if not self.surprise and (self.start_seconds, self.end_seconds) != (None, None):
            raise ValueError("start_seconds and end_seconds need surprise=true; a forecast starts at at_seconds")
        return self


class PredictedFrame(BaseModel):
    time_seconds: Rounded = Field(description="The moment that is forecast, from the first displayed frame.")
    png: str = Field(description="PNG in base64.", json_schema_extra={"contentEncoding": "base64"})


class SurpriseScore(BaseModel):
    time_seconds: Rounded = Field(description="Of the frame that came.")
    score: Rounded = Field(
        ge=0,
        description="Root mean squared difference, over pixels and colours at the size the model sees, between the "
        "frame and its forecast from all frames before it: 0 is as forecast, 1 is white for black. The first frame "
        "has none.",
    )


class SurpriseSegment(BaseModel):
    """[start_seconds, end_seconds) where the scores stand out."""

    start_seconds: Rounded
    end_seconds: Rounded
    score: Rounded = Field(description="The largest in it.")


class PredictResponse(BaseModel):
    media: Media
    model: ModelRef
    frame_rate: Rounded = Field(description="Of the forecast: the model's own, in frames per second.")
    width: int = Field(description="Pixels: what the model sees of the video, which may be scaled down.")
    height: int
    at_seconds: Rounded = Field(description="Of the last frame that was observed.")
    frames: list[PredictedFrame]
    surprise: list[SurpriseScore] | None = Field(description="With `surprise=true`; at the model's rate.")
    surprise_segments: list[SurpriseSegment] | None = Field(
        description=f"Where the score exceeds the median of all by more than {PEAK_DEVIATIONS:g} robust standard "
        f"deviations and by more than {SMALLEST_RISE}, and around that for as long as it keeps {EDGE_SHARE:g} of this "
        f"rise; segments less than {MERGED_SECONDS} s apart are merged."
    )
    partial: bool = Field(
        default=False,
        description="With `surprise=true` and `Prefer: wait=SECONDS`: time was up. The answer covers the frames "
        "compared by then, and `frames` follow the last of them, at `at_seconds`, whatever was asked.",
    )
    timing: Timing

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "media": EXAMPLE_VIDEO,
                "model": {"name": "forecast", "version": "1", "digest": "51d0…", "license": "CC-BY-4.0"},
                "frame_rate": 15.0,
                "width": 128,
                "height": 96,
                "at_seconds": 2.933333,
                "frames": [{"time_seconds": 3.0, "png": "iVBORw0KGgo…"}],
                "surprise": [{"time_seconds": 0.066667, "score": 0.013}],
                "surprise_segments": [{"start_seconds": 1.2, "end_seconds": 1.333333, "score": 0.214}],
                "partial": False,
                "timing": EXAMPLE_TIMING,
            }
        }
    )


class SurpriseProgress(BaseModel):
    """An event on the way."""

    type: Literal["progress"] = "progress"
    seconds: Rounded = Field(description="Of video compared so far.")
    surprise: list[SurpriseScore] = Field(description="Since the event before.")


class PredictFinal(PredictResponse):
    """The last event: the whole answer."""

    type: Literal["result"] = "result"


_Answer = TypeVar("_Answer", bound=PredictResponse)


@router.post(
    PATH,
    summary="What comes next in a video",
    openapi_extra=UPLOAD,
    response_model=PredictResponse,
    responses={
        **UPLOAD_PROBLEMS,
        **described(
            SurpriseProgress | PredictFinal,
            FORMATS,
            "JSON with PNG frames; MP4 or GIF: what was observed, then what is predicted in an orange border; npz: "
            "`observed`, `predicted` (T, H, W, 3) uint8, `observed_times`, `predicted_times`, with `surprise=true` "
            "`surprise_times`, `surprise_scores`, `surprise_segments` (N, 3).",
        ),
    },
)
async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
    """The frames that follow, at the model's own rate and at the size that it sees; with `surprise=true` also how far
    each frame of the video was from its forecast: a curve, and the segments where it stands out.

    Send the file as for /classify. `format` chooses the format, else the Accept header. With `surprise=true` the header
    may ask for `application/x-ndjson` or `text/event-stream`: scores as they are known, and the whole answer last. With
    `surprise=true` and `Prefer: wait=SECONDS` work stops after that many seconds; the answer then covers what was
    compared so far, and has `"partial": true`.
    """
    kind = event_format(request, FORMATS) if query.surprise and query.format is None else None
    wait_seconds = wait_preference(request) if query.surprise else None  # half a forecast is none
    if kind is None:
        chosen = wanted_format(request, query.format, FORMATS)
        forecast, timing = await _predict(request, query, wait_seconds, None)
        return await respond(
            service_of(request),
            lambda: _encode(forecast, chosen, timing),
            chosen,
            ModelRef.of(forecast.model),
            timing,
            applied(wait_seconds, is_partial=forecast.is_partial),
        )

    async def in_events(emit: Emit) -> Event:
        forecast, timing = await _predict(request, query, wait_seconds, emit)
        return lambda: _answer(PredictFinal, forecast, timing).model_dump_json().encode()

    return EventResponse(request, kind, in_events, applied(wait_seconds))


async def _predict(
    request: Request, query: PredictQuery, wait_seconds: int | None, emit: Emit | None
) -> tuple[Forecast, Timing]:
    """The answer; with `emit`, events on the way, and all the time that a stream may take."""
    service = service_of(request)
    model = service.store.get(query.model, query.version, "predict")
    options = PredictOptions(_horizon(query.horizon, model), query.at_seconds, query.surprise)
    async with receive(request, [model], emit, on_arrival=emit is not None and query.is_whole) as received:
        upload = received.upload(query, in_events=emit is not None, wait_seconds=wait_seconds)
        on_progress = None if emit is None else _Teller(emit)
        forecast = await service.predict.run(upload, model, options, on_progress)
    return forecast, received.report(forecast.cost)


class _Teller:
    """Emits what has been compared since the last time."""

    def __init__(self, emit: Emit) -> None:
        self.emit = emit
        self.num_told = 0

    def __call__(self, curve: SurpriseCurve) -> None:
        self.emit(lambda: self._event(curve))

    def _event(self, curve: SurpriseCurve) -> SurpriseProgress | None:
        fresh = zip(curve.times[self.num_told :], curve.scores[self.num_told :], strict=True)
        scores = [SurpriseScore(time_seconds=seconds, score=score) for seconds, score in fresh]
        self.num_told += len(scores)
        return SurpriseProgress(seconds=curve.times[-1], surprise=scores) if scores else None


def _horizon(asked: int | None, model: ServedModel) -> int:
    output = model.manifest.output
    assert isinstance(output, PredictOutput)
    if asked is not None and asked > output.max_horizon:
        raise MalformedRequest(
            f"horizon is {asked}; model {model.manifest.name} predicts {output.max_horizon} frames at most."
        )
    return asked or min(DEFAULT_HORIZON, output.max_horizon)


def _encode(forecast: Forecast, chosen: str, timing: Timing) -> bytes:
    if chosen == "json":
        return _answer(PredictResponse, forecast, timing).model_dump_json().encode()
    if chosen == "npz":
        return _as_npz(forecast)
    marked = mark_predicted(forecast.observed, forecast.predicted)
    if chosen == "gif":
        return encode_gif(marked, forecast.frame_rate)
    return encode_mp4(marked, forecast.frame_rate, {"comment": " ".join(forecast.model.manifest.origin.values())})


def _answer(kind: type[_Answer], forecast: Forecast, timing: Timing) -> _Answer:
    surprise = forecast.surprise
    return kind(
        media=Media.of(forecast.media),
        model=ModelRef.of(forecast.model),
        frame_rate=forecast.frame_rate,
        width=forecast.predicted.shape[2],
        height=forecast.predicted.shape[1],
        at_seconds=float(forecast.observed_times[-1]),
        frames=[
            PredictedFrame(time_seconds=seconds, png=base64.b64encode(encode_png(frame)).decode())
            for seconds, frame in zip(forecast.predicted_times, forecast.predicted, strict=True)
        ],
        surprise=None
        if surprise is None
        else [
            SurpriseScore(time_seconds=seconds, score=score)
            for seconds, score in zip(surprise.times, surprise.scores, strict=True)
        ],
        surprise_segments=None
        if surprise is None
        else [SurpriseSegment.model_validate(segment, from_attributes=True) for segment in surprise.segments],
        partial=forecast.is_partial,
        timing=timing,
    )


def _as_npz(forecast: Forecast) -> bytes:
    arrays: dict[str, NDArray[np.uint8] | NDArray[np.float64]] = {
        "observed": forecast.observed,
        "predicted": forecast.predicted,
        "observed_times": forecast.observed_times,
        "predicted_times": forecast.predicted_times,
    }
    if forecast.surprise is not None:
        segments = [[part.start_seconds, part.end_seconds, part.score] for part in forecast.surprise.segments]
        arrays["surprise_times"] = forecast.surprise.times
        arrays["surprise_scores"] = forecast.surprise.scores
        arrays["surprise_segments"] = np.array(segments).reshape(-1, 3)
    with io.BytesIO() as file:
        np.savez_compressed(file, **arrays, **forecast.model.manifest.origin)  # type: ignore[arg-type]  # str becomes an array
        return file.getvalue()
