"""POST /classify."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.events import Emit, EventResponse
from app.api.formats import answer_headers, event_format
from app.api.openapi import UPLOAD, UPLOAD_PROBLEMS, described
from app.api.preference import applied, wait_preference
from app.api.receive import receive
from app.api.schemas import EXAMPLE_TIMING, EXAMPLE_VIDEO, Label, Media, ModelRef, Rounded, Timing, UploadQuery
from app.api.service import service_of
from app.pipelines.classify import ClassifyOptions, ModelProgress, ModelResult, reads_on_arrival

PATH = "/classify"
router = APIRouter(tags=["classify"])


class ClassifyQuery(UploadQuery):
    """Query of POST /classify."""

    model: list[str] = Field(default=[], max_length=8, description="Repeatable: several models share one decode.")
    top_k: int = Field(default=5, ge=1, le=1000)
    min_score: float = Field(default=0.0, ge=0, le=1)
    timeline: bool = Field(default=False, description="Also answer segments.")
    early_exit: bool = Field(
        default=False, description="Stop once reading on would hardly change the labels; docs/streams.md has the rule."
    )
    sampling: Literal["exact", "fast"] = Field(
        default="exact",
        description="fast: nearest key frames, where enough; for models that are `trained_for_key_frames`, or where an "
        "answer that may be worse will do.",
    )

    @model_validator(mode="after")
    def _one_version(self) -> Self:
        if self.version is not None and len(self.model) > 1:
            raise ValueError("version can be given with one model only")
        return self


class Segment(BaseModel):
    """[start_seconds, end_seconds) from the first displayed frame."""

    start_seconds: Rounded
    end_seconds: Rounded
    label: str
    score: Rounded = Field(ge=0, le=1, description="Mean over the segment.")


class ClassifyResult(BaseModel):
    model: ModelRef
    labels: list[Label] = Field(description="Best first.")
    segments: list[Segment] | None = Field(description="With `timeline=true`.")
    frames_used: int = Field(
        description="Frames that the labels were judged by. For sound: the steps of a model that steps, else the parts "
        "that the sound was cut into."
    )
    sampling: Literal["exact", "fast"] = Field(description="`fast` falls back to `exact` where key frames are few.")
    settled: bool = Field(description="With `early_exit=true`: reading stopped early, after `frames_used` frames.")

    @classmethod
    def of(cls, result: ModelResult) -> Self:
        segments = result.segments
        return cls(
            model=ModelRef.of(result.model),
            labels=[Label(label=entry.label, score=entry.score) for entry in result.labels],
            segments=None
            if segments is None
            else [Segment.model_validate(segment, from_attributes=True) for segment in segments],
            frames_used=result.frames_used,
            sampling=result.sampling,
            settled=result.is_settled,
        )


class ClassifyResponse(BaseModel):
    media: Media
    results: list[ClassifyResult] = Field(description="One per model, in the order asked.")
    partial: bool = Field(
        default=False, description="With `Prefer: wait=SECONDS`: time was up, and this covers what was judged by then."
    )
    timing: Timing

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "media": EXAMPLE_VIDEO,
                "results": [
                    {
                        "model": {"name": "motion", "version": "1", "digest": "9f2c…", "license": "CC0-1.0"},
                        "labels": [{"label": "right", "score": 0.98}, {"label": "still", "score": 0.01}],
                        "segments": [{"start_seconds": 0.0, "end_seconds": 3.0, "label": "right", "score": 0.97}],
                        "frames_used": 12,
                        "sampling": "exact",
                        "settled": False,
                    }
                ],
                "partial": False,
                "timing": EXAMPLE_TIMING,
            }
        }
    )


class ModelProgressEvent(BaseModel):
    """What one model says so far."""

    model: str
    version: str
    seconds: Rounded = Field(description="Of video or sound judged so far.")
    labels: list[Label] = Field(description="Of that, best first; empty where the model looks at the whole at once.")
    segments: list[Segment] = Field(description="With `timeline=true`: those that ended since the event before.")

    @classmethod
    def of(cls, progress: ModelProgress, num_told: int) -> Self:
        """`num_told`: segments that the events before have told of."""
        manifest = progress.model.manifest
        fresh = progress.segments[num_told:]
        return cls(
            model=manifest.name,
            version=manifest.version,
            seconds=progress.seconds,
            labels=[Label(label=entry.label, score=entry.score) for entry in progress.labels],
            segments=[Segment.model_validate(segment, from_attributes=True) for segment in fresh],
        )


class ClassifyProgress(BaseModel):
    """An event on the way."""

    type: Literal["progress"] = "progress"
    results: list[ModelProgressEvent] = Field(description="One per model, in the order asked.")


class ClassifyFinal(ClassifyResponse):
    """The last event: the whole answer."""

    type: Literal["result"] = "result"


@router.post(
    PATH,
    summary="What a video shows, what a sound is",
    openapi_extra=UPLOAD,
    responses={**UPLOAD_PROBLEMS, **described(ClassifyProgress | ClassifyFinal)},
    response_model=ClassifyResponse,
)
async def classify(
    request: Request, response: Response, query: Annotated[ClassifyQuery, Query()]
) -> ClassifyResponse | Response:
    """Labels with scores and, with `timeline=true`, segments in time.

    Send the file in the form field `file`, or as the body itself with any other Content-Type:
    the bytes decide what it is, never the header or the name. Models of video need a picture, models that listen need
    a sound track; `GET /models` says which is which.

    With `Accept: application/x-ndjson` or `text/event-stream` the answer comes in events: what is known after each
    chunk while the file is still being read, or sent, and the whole answer last. With `Prefer: wait=SECONDS` work
    stops after that many seconds; the answer is then the best known so far, and has `"partial": true`.
    """
    kind, wait_seconds = event_format(request), wait_preference(request)
    if kind is None:
        answer = await _classify(request, query, wait_seconds, None)
        response.headers.update(answer_headers(answer.timing) | applied(wait_seconds, is_partial=answer.partial))
        return answer
    return EventResponse(
        request, kind, lambda emit: _classify(request, query, wait_seconds, emit), applied(wait_seconds)
    )


async def _classify(
    request: Request, query: ClassifyQuery, wait_seconds: int | None, emit: Emit | None
) -> ClassifyResponse:
    """The answer; with `emit`, events on the way, and all the time that a stream may take."""
    service = service_of(request)
    models = [service.store.get(name, query.version, "classify") for name in query.model or (None,)]
    options = ClassifyOptions(query.top_k, query.min_score, query.timeline, query.early_exit)
    on_arrival = reads_on_arrival(models, options, in_events=emit is not None)
    async with receive(request, models, emit, on_arrival=on_arrival and query.is_whole) as received:
        upload = received.upload(
            query,
            query.sampling,
            in_events=emit is not None,
            is_prompt=query.early_exit,
            wait_seconds=wait_seconds,
        )
        on_progress = None if emit is None else _Teller(emit, len(models))
        answer = await service.classify.run(upload, models, options, on_progress)
    return (ClassifyResponse if emit is None else ClassifyFinal)(
        media=Media.of(answer.media),
        results=[ClassifyResult.of(result) for result in answer.results],
        partial=answer.is_partial,
        timing=received.report(answer.cost),
    )


class _Teller:
    """Emits what has been judged since the last time."""

    def __init__(self, emit: Emit, num_models: int) -> None:
        self.emit = emit
        self.told = [(0.0, 0)] * num_models  # seconds and segments

    def __call__(self, results: tuple[ModelProgress, ...]) -> None:
        self.emit(lambda: self._event(results))

    def _event(self, results: tuple[ModelProgress, ...]) -> ClassifyProgress | None:
        before, self.told = self.told, [(progress.seconds, len(progress.segments)) for progress in results]
        if self.told == before:
            return None
        pairs = zip(results, before, strict=True)
        return ClassifyProgress(
            results=[ModelProgressEvent.of(progress, num_told) for progress, (_, num_told) in pairs]
        )
