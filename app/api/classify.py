"""POST /classify."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.api import schemas
from app.api.observe import RequestRecord
from app.api.openapi import PROBLEM
from app.api.service import Service, service_of
from app.api.upload import spooled
from app.pipelines.classify import Classification, ClassifyOptions, ModelResult

router = APIRouter(tags=["classify"])

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""The route reads its body itself: FastAPI's UploadFile would consume a raw one."""


@router.post(
    "/classify",
    summary="What a video shows",
    openapi_extra=UPLOAD_BODY,
    responses=dict.fromkeys((400, 404, 411, 413, 415, 422, 429, 503, 504), PROBLEM),
)
async def classify(request: Request, query: Annotated[schemas.ClassifyQuery, Query()]) -> schemas.ClassifyResponse:
    """Labels with scores and, with `timeline=true`, segments in time.

    Send the video in the form field `file`, or as the body itself with any other Content-Type:
    the bytes decide what it is, never the header or the name.
    """
    service = service_of(request)
    record: RequestRecord = request.state.record
    models = [service.store.get(name, query.version, "classify") for name in query.model or (None,)]
    record.models = tuple(f"{model.manifest.name}@{model.manifest.version}" for model in models)
    started = time.perf_counter()
    async with spooled(request) as video:
        uploaded = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + service.deadline_seconds
        options = ClassifyOptions(
            top_k=query.top_k,
            min_score=query.min_score,
            timeline=query.timeline,
            start_seconds=query.start_seconds,
            end_seconds=query.end_seconds,
            sampling=query.sampling,
        )
        answer = await service.classify.run(video.fileno(), models, options, deadline)
    timing = schemas.Timing(
        queue_seconds=answer.queue_seconds,
        upload_seconds=uploaded - started,
        decode_seconds=answer.decode.decode_seconds,
        infer_seconds=answer.infer_seconds,
        total_seconds=time.perf_counter() - started,
    )
    _record(service, record, answer, timing)
    return schemas.ClassifyResponse(
        media=schemas.Media.model_validate(answer.media, from_attributes=True),
        results=[_result(result) for result in answer.results],
        timing=timing,
    )


def _result(result: ModelResult) -> schemas.ClassifyResult:
    segments = result.segments
    return schemas.ClassifyResult(
        model=schemas.ModelRef(
            name=result.model.manifest.name,
            version=result.model.manifest.version,
            digest=result.model.digest,
            license=result.model.manifest.license,
        ),
        labels=[schemas.Label(label=entry.label, score=entry.score) for entry in result.labels],
        segments=None
        if segments is None
        else [schemas.Segment.model_validate(segment, from_attributes=True) for segment in segments],
        frames_used=result.frames_used,
        sampling=result.sampling,
    )


def _record(service: Service, record: RequestRecord, answer: Classification, timing: schemas.Timing) -> None:
    record.media_seconds = answer.decode.duration_seconds
    record.stages = {
        "upload": timing.upload_seconds,
        "queue": timing.queue_seconds,
        "decode": timing.decode_seconds,
        "infer": timing.infer_seconds,
    }
    service.telemetry.frames.labels("decoded").inc(answer.decode.frames_decoded)
    service.telemetry.frames.labels("skipped").inc(answer.decode.frames_skipped)
