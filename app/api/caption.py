"""POST /caption."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.events import Emit, EventResponse
from app.api.formats import answer_headers, event_format
from app.api.openapi import UPLOAD, UPLOAD_PROBLEMS, described
from app.api.preference import applied, wait_preference
from app.api.receive import receive
from app.api.schemas import EXAMPLE_TIMING, EXAMPLE_VIDEO, Media, ModelRef, Rounded, Timing, UploadQuery
from app.api.service import service_of
from app.models.store import ModelStore, ServedModel
from app.pipelines.caption import CaptionOptions, CommentSegment
from app.pipelines.shots import finds_shots

PATH = "/caption"
router = APIRouter(tags=["caption"])

MAX_BEAM = 16
SHOTS_BY = "camera"
"""The model whose cuts and dissolves segments begin and end at, where it is served."""


class CaptionQuery(UploadQuery):
    """Query of POST /caption."""

    model: str | None = None
    beam: int = Field(default=4, ge=1, le=MAX_BEAM, description="Comments that the beam search follows and answers.")
    max_length: int | None = Field(
        default=None,
        ge=2,
        le=256,
        description="Most words of a comment, punctuation marks and its end included; at most the model's own limit.",
    )
    length_penalty: float | None = Field(
        default=None,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="Scores are divided by ((5 + words) / 6) raised to this power: 0 ranks by probability alone, more "
        "favours longer comments. Default: the model's own.",
    )
    timeline: bool = Field(default=False, description="Also answer segments.")


class Comment(BaseModel):
    text: str
    score: Rounded = Field(ge=0, le=1, description="Without a length penalty: the probability of these very words.")


class CommentedSegment(Comment):
    """[start_seconds, end_seconds) from the first displayed frame, and the best comment on it."""

    start_seconds: Rounded
    end_seconds: Rounded

    @classmethod
    def of(cls, segment: CommentSegment) -> Self:
        return cls(
            start_seconds=segment.start_seconds,
            end_seconds=segment.end_seconds,
            text=segment.comment.text,
            score=segment.comment.score,
        )


class CaptionResponse(BaseModel):
    media: Media
    model: ModelRef
    comments: list[Comment] = Field(
        description="On the whole video, best first. Times in them count from the first displayed frame. A video "
        "longer than the model sees at once is described in parts: then this is one comment, each part's best in order."
    )
    segments: list[CommentedSegment] | None = Field(description="With `timeline=true`: in order, without gaps.")
    shots_by: ModelRef | None = Field(
        description=f"With `timeline=true`: the model that found the cuts and dissolves between segments, `{SHOTS_BY}` "
        "where it is served. Without it, and within long shots, a segment is at most as long as the model sees at once."
    )
    partial: bool = Field(
        default=False,
        description="With `timeline=true` and `Prefer: wait=SECONDS`: time was up, and the answer covers the segments "
        "described by then.",
    )
    timing: Timing

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "media": EXAMPLE_VIDEO,
                "model": {"name": "describe", "version": "1", "digest": "7d0a…", "license": "CC-BY-4.0"},
                "comments": [
                    {"text": "The camera pans left; a cut at 1.5 s; the camera holds still.", "score": 0.81},
                    {"text": "The camera pans left; a cut at 1.4 s; the camera holds still.", "score": 0.07},
                ],
                "segments": [
                    {"start_seconds": 0.0, "end_seconds": 1.5, "text": "The camera pans left.", "score": 0.9},
                    {"start_seconds": 1.5, "end_seconds": 3.0, "text": "The camera holds still.", "score": 0.95},
                ],
                "shots_by": {"name": "camera", "version": "1", "digest": "03bb…", "license": "CC-BY-4.0"},
                "partial": False,
                "timing": EXAMPLE_TIMING,
            }
        }
    )


class CaptionProgress(BaseModel):
    """An event on the way."""

    type: Literal["progress"] = "progress"
    seconds: Rounded = Field(description="Of video described so far.")
    segments: list[CommentedSegment] = Field(description="With `timeline=true`: those since the event before.")


class CaptionFinal(CaptionResponse):
    """The last event: the whole answer."""

    type: Literal["result"] = "result"


@router.post(
    PATH,
    summary="A comment on a video, in words",
    openapi_extra=UPLOAD,
    responses={**UPLOAD_PROBLEMS, **described(CaptionProgress | CaptionFinal)},
    response_model=CaptionResponse,
)
async def caption(
    request: Request, response: Response, query: Annotated[CaptionQuery, Query()]
) -> CaptionResponse | Response:
    """Sentences about the video, the likeliest first; with `timeline=true` also one for each shot.

    Send the file as for /classify. With `timeline=true` and `Accept: application/x-ndjson` or `text/event-stream` the
    answer comes in events: segments as they are described, while the file is still being read, and the whole answer
    last. With `timeline=true` and `Prefer: wait=SECONDS` work stops after that many seconds; the answer then covers the
    segments described so far, and has `"partial": true`.
    """
    kind = event_format(request)
    wait_seconds = wait_preference(request) if query.timeline else None  # half a sentence is none
    if kind is None:
        answer = await _caption(request, query, wait_seconds, None)
        response.headers.update(answer_headers(answer.timing) | applied(wait_seconds, is_partial=answer.partial))
        return answer
    return EventResponse(
        request, kind, lambda emit: _caption(request, query, wait_seconds, emit), applied(wait_seconds)
    )


async def _caption(
    request: Request, query: CaptionQuery, wait_seconds: int | None, emit: Emit | None
) -> CaptionResponse:
    """The answer; with `emit`, events on the way, and all the time that a stream may take."""
    service = service_of(request)
    model = service.store.get(query.model, query.version, "caption")
    options = CaptionOptions(query.beam, query.max_length, query.length_penalty, query.timeline)
    shots_by = _shots_by(service.store) if query.timeline else None
    models = [model] if shots_by is None else [model, shots_by]
    async with receive(request, models, emit, on_arrival=query.is_whole) as received:
        upload = received.upload(query, in_events=emit is not None, wait_seconds=wait_seconds)
        on_progress = None if emit is None else _Teller(emit, query.timeline)
        answer = await service.caption.run(upload, model, options, shots_by, on_progress)
    return (CaptionResponse if emit is None else CaptionFinal)(
        media=Media.of(answer.media),
        model=ModelRef.of(answer.model),
        comments=[Comment(text=one.text, score=one.score) for one in answer.comments],
        segments=None if answer.segments is None else [CommentedSegment.of(one) for one in answer.segments],
        shots_by=None if answer.shots_by is None else ModelRef.of(answer.shots_by),
        partial=answer.is_partial,
        timing=received.report(answer.cost),
    )


class _Teller:
    """Emits what has been described since the last time."""

    def __init__(self, emit: Emit, timeline: bool) -> None:
        self.emit = emit
        self.timeline = timeline
        self.num_told = 0

    def __call__(self, segments: Sequence[CommentSegment]) -> None:
        self.emit(lambda: self._event(segments))

    def _event(self, segments: Sequence[CommentSegment]) -> CaptionProgress | None:
        fresh = segments[self.num_told :]
        self.num_told = len(segments)
        if not fresh:
            return None
        told = [CommentedSegment.of(segment) for segment in fresh] if self.timeline else []
        return CaptionProgress(seconds=fresh[-1].end_seconds, segments=told)


def _shots_by(store: ModelStore) -> ServedModel | None:
    if SHOTS_BY not in store.names("classify"):
        return None
    model = store.get(SHOTS_BY, task="classify")
    return model if finds_shots(model) else None
