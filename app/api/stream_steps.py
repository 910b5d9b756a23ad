"""POST /stream/steps: a stream over plain HTTP, its state with the client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect

from app.api.openapi import PROBLEM, UPLOAD_PROBLEMS
from app.api.schemas import Media, ModelRef, Rounded
from app.api.service import service_of
from app.api.stream_messages import StreamQuery, decode_state, encode_state
from app.api.stream_schemas import Done, Step
from app.api.upload import spooling
from app.errors import MalformedRequest
from app.models.manifest import ClassifyOutput
from app.models.tokens import StateTokens
from app.pipelines.reading import Upload
from app.pipelines.starting import start_of
from app.pipelines.stepping import step_file, step_pictures
from app.pipelines.stream import Stream, StreamStep

PATH = "/stream/steps"
STATE_HEADER = "Afterframe-State"
MAX_PICTURES = 64
_TIMES: TypeAdapter[list[float]] = TypeAdapter(list[Annotated[float, Field(allow_inf_nan=False)]])

router = APIRouter(tags=["stream"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "A chunk of video or sound."},
                        "picture": {
                            "type": "array",
                            "maxItems": MAX_PICTURES,
                            "items": {"type": "string", "format": "binary"},
                            "description": "JPEG, PNG or WebP, in order.",
                        },
                        "times": {
                            "type": "string",
                            "description": "JSON: when each picture is on display, in seconds; else the model's rate.",
                        },
                        "state": {
                            "type": "string",
                            "description": f"The token of the answer before, base64; or the header {STATE_HEADER}.",
                        },
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class StepsQuery(StreamQuery):
    """Query of POST /stream/steps."""

    end: bool = Field(default=False, description="Nothing follows: also answer what is left to say, and no state.")


class StepsResponse(BaseModel):
    model: ModelRef
    labels: list[str] | None = Field(default=None, description="`scores`, `smoothed` and `so_far` are in this order.")
    rate: Rounded = Field(description="Steps a second that the model was trained for.")
    media: Media | None = Field(default=None, description="Of a file.")
    steps: list[Step]
    sequence: int = Field(description="The last step taken.")
    seconds: Rounded = Field(description="When the next step begins, if it follows without a gap.")
    done: Done | None = Field(default=None, description="With `end=true`.")
    state: str | None = Field(default=None, description="The token to send with what follows, base64.")


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a request brought: pictures, or a file."""

    state: str | None
    pictures: list[bytes]
    times: list[float] | None
    file: int | None
    """Its descriptor."""


@router.post(
    PATH,
    summary="The next steps of a stream",
    openapi_extra=_BODY,
    responses={**UPLOAD_PROBLEMS, 401: PROBLEM, 409: PROBLEM},
    response_model_exclude_none=True,
)
async def steps(request: Request, query: Annotated[StepsQuery, Query()]) -> StepsResponse:
    """Steps over a chunk of video or sound, or over pictures, from where the state of the answer before stands.

    Any replica can answer: the server keeps nothing. The same state may be sent twice, which forks the stream.
    """
    service = service_of(request)
    parts = service.stream
    async with _receive(request, parts.tokens.max_state_bytes) as sent:
        deadline = asyncio.get_running_loop().time() + service.deadline_seconds
        token = decode_state(sent.state) if sent.state is not None else None
        model, point = start_of(parts.store, parts.tokens, query.model, query.version, token)
        request.state.record.models = (f"{model.manifest.name}@{model.manifest.version}",)
        stream = parts.sessions.stream(model, point)
        media, stages = None, {}
        if sent.file is not None:
            taken, info, cost = await step_file(parts.decoders, Upload(sent.file, deadline), stream)
            media, stages = Media.of(info), {"decode": cost.decode.decode_seconds}
        else:
            taken = await step_pictures(parts.pictures, sent.pictures, sent.times, deadline, stream)
    done = Done.of(stream, await stream.finish()) if query.end else None
    calls = stream.calls
    request.state.record.stages = {"queue": calls.queue_seconds, "infer": calls.infer_seconds, **stages}
    return _answer(parts.tokens, stream, taken, media, done)


def _answer(
    tokens: StateTokens, stream: Stream, taken: list[StreamStep], media: Media | None, done: Done | None
) -> StepsResponse:
    model, point = stream.model, stream.point()
    output = model.manifest.output
    return StepsResponse(
        model=ModelRef.of(model),
        labels=list(output.labels) if isinstance(output, ClassifyOutput) else None,
        rate=stream.rate,
        media=media,
        steps=[Step.of(step) for step in taken],
        sequence=stream.sequence,
        seconds=stream.seconds,
        done=done,
        state=encode_state(tokens.issue(model, point)) if point is not None and done is None else None,
    )


@asynccontextmanager
async def _receive(request: Request, max_state_bytes: int) -> AsyncIterator[_Sent]:
    """What the body brings. Raises MalformedRequest where that is neither pictures nor a file."""
    state = request.headers.get(STATE_HEADER)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        async with spooling(request) as spool:
            await spool.finished
            yield _Sent(state, [], None, spool.descriptor)
        return
    try:
        async with request.form(
            max_files=MAX_PICTURES,
            max_fields=8,
            max_part_size=2 * max_state_bytes,  # base64 takes 4/3
        ) as form:
            yield await _read_form(form, state)
    except ClientDisconnect as gone:
        raise MalformedRequest("The upload ended before its last byte.") from gone


async def _read_form(form: FormData, state: str | None) -> _Sent:
    pictures = [await part.read() for part in form.getlist("picture") if isinstance(part, UploadFile)]
    in_form = form.get("state")
    if isinstance(in_form, UploadFile):
        raise MalformedRequest("The form's field 'state' is a file, not text.")
    state = in_form or state
    if pictures:
        return _Sent(state, pictures, _times(form.get("times"), len(pictures)), None)
    file = form.get("file")
    if not isinstance(file, UploadFile) or not file.size:
        raise MalformedRequest("The form has neither a file 'file' nor a file 'picture'.")
    descriptor = await to_thread.run_sync(
        file.file.fileno
    )  # moves a small one, which the parser keeps in memory, to disk
    await to_thread.run_sync(file.file.flush)
    return _Sent(state, [], None, descriptor)


def _times(text: UploadFile | str | None, num_pictures: int) -> list[float] | None:
    if text is None:
        return None
    try:
        times = _TIMES.validate_json(text if isinstance(text, str) else b"")
    except ValidationError as error:
        raise MalformedRequest("The form's field 'times' is not a JSON list of seconds.") from error
    if len(times) != num_pictures or times != sorted(times):
        raise MalformedRequest(f"There are {len(times)} times for {num_pictures} pictures, or they run backwards.")
    return times
