"""POST /stream/steps: a stream over plain HTTP, its state with the client."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from app.api.form import FormLayout, FormPart
from app.api.openapi import PROBLEM, UPLOAD_PROBLEMS, request_header
from app.api.receive import record_cost
from app.api.schemas import Media, ModelRef, Rounded
from app.api.service import StreamService, service_of
from app.api.stream_messages import StreamQuery, decode_state, encode_state
from app.api.stream_schemas import Done, Step
from app.api.upload import spooling
from app.errors import DeadlineExceeded, MalformedRequest
from app.models.tokens import StateTokens
from app.pipelines.reading import Cost, Upload
from app.pipelines.sources import MAX_SECONDS
from app.pipelines.starting import start_of
from app.pipelines.stepping import step_file, step_pictures
from app.pipelines.stream import Stream, StreamStep

PATH = "/stream/steps"
STATE_HEADER = "Afterframe-State"
MAX_PICTURES = 64
MAX_READ_BYTES = 2**23
"""Of pictures at once, unless one alone has more."""
_TIMES: TypeAdapter[list[float]] = TypeAdapter(
    list[Annotated[float, Field(allow_inf_nan=False, ge=-MAX_SECONDS, le=MAX_SECONDS)]]
)

router = APIRouter(tags=["stream"])

_BODY: dict[str, Any] = {
    "parameters": [
        request_header(STATE_HEADER, "The token of the answer before, base64; or the form's field `state`.", "AQIDBA==")
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "additionalProperties": False,
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
    },
}


class StepsQuery(StreamQuery):
    """Query of POST /stream/steps."""

    end: bool = Field(default=False, description="Nothing follows: also answer `done`, and no state.")


class StepsResponse(BaseModel):
    model: ModelRef
    labels: list[str] | None = Field(default=None, description="`scores`, `smoothed` and `so_far` are in this order.")
    rate: Rounded = Field(description="Steps a second that the model was trained for.")
    media: Media | None = Field(default=None, description="Of a file.")
    steps: list[Step]
    sequence: int = Field(description="The last step taken.")
    seconds: Rounded = Field(description="When the next step begins if it follows without a gap.")
    done: Done | None = Field(default=None, description="With `end=true`.")
    state: str | None = Field(default=None, description="The token to send with what follows, base64.")


@dataclass(frozen=True, slots=True)
class _SpooledPictures:
    """Those of a form, where they lie on disk."""

    descriptor: int
    parts: Sequence[FormPart]

    def __len__(self) -> int:
        return len(self.parts)

    async def read(self, first: int, most: int) -> list[bytes]:
        """Up to `most` of them from `first` on: as many as MAX_READ_BYTES allow, one at least."""
        wanted = self.parts[first : first + most]
        count = max(1, sum(part.end - wanted[0].start <= MAX_READ_BYTES for part in wanted))
        return await to_thread.run_sync(self._read, wanted[:count])

    def _read(self, parts: Sequence[FormPart]) -> list[bytes]:
        return [os.pread(self.descriptor, part.end - part.start, part.start) for part in parts]


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a request brought: pictures, or a file."""

    state: str | None
    pictures: _SpooledPictures | None
    times: list[float] | None
    file: int
    """The file's descriptor, where there are no pictures."""
    seconds: float
    """That sending it took."""


@router.post(
    PATH,
    summary="The next steps of a stream",
    openapi_extra=_BODY,
    responses={**UPLOAD_PROBLEMS, 401: PROBLEM, 409: PROBLEM},
    response_model=StepsResponse,
)
async def stream_steps(request: Request, query: Annotated[StepsQuery, Query()]) -> Response:
    """Steps over a chunk of video or sound, or over pictures, continuing from the state of the answer before.

    Any replica can answer, for the server keeps nothing. The same state may be sent twice, which forks the stream.
    """
    service = service_of(request)
    parts = service.stream
    async with _receive(request, _layout(parts)) as sent:
        deadline = asyncio.get_running_loop().time() + service.deadline_seconds
        token = decode_state(sent.state) if sent.state is not None else None
        model, point = start_of(parts.store, parts.tokens, query.model, query.version, token)
        request.state.record.models = (f"{model.manifest.name}@{model.manifest.version}",)
        stream = parts.sessions.stream(model, point, live=sent.pictures is not None)
        media, end_seconds = None, math.inf
        try:
            async with asyncio.timeout_at(deadline):
                if sent.pictures is not None:
                    taken, read = await step_pictures(parts.pictures, sent.pictures, sent.times, deadline, stream)
                else:
                    upload, began_seconds = Upload(sent.file, deadline), stream.seconds
                    taken, info, read = await step_file(parts.decoders, upload, stream, parts.max_values)
                    media, end_seconds = Media.of(info), began_seconds + read.duration_seconds
                done = None
                if query.end:
                    taken += await stream.step_rest()
                    done = Done.of(stream, await stream.finish(end_seconds))
        except TimeoutError as late:
            raise DeadlineExceeded("The steps could not be taken before the deadline.") from late
    calls = stream.calls
    cost = Cost(read, read.queue_seconds + calls.queue_seconds, calls.infer_seconds)
    record_cost(service, request.state.record, cost, sent.seconds)
    encode = partial(_encode, parts.tokens, stream, taken, media, done)
    return Response(await to_thread.run_sync(encode, limiter=service.encoders), media_type="application/json")


def _encode(
    tokens: StateTokens, stream: Stream, taken: list[StreamStep], media: Media | None, done: Done | None
) -> bytes:
    """The answer as JSON. Off the event loop: twenty thousand steps take a while."""
    model, point = stream.model, stream.point()
    answer = StepsResponse(
        model=ModelRef.of(model),
        labels=model.manifest.labels,
        rate=stream.rate,
        media=media,
        steps=[Step.of(step) for step in taken],
        sequence=stream.sequence,
        seconds=stream.seconds,
        done=done,
        state=encode_state(tokens.issue(model, point)) if point is not None and done is None else None,
    )
    return answer.model_dump_json(exclude_none=True).encode()


def _layout(service: StreamService) -> FormLayout:
    return FormLayout(
        files={"file": 1, "picture": MAX_PICTURES},
        texts=frozenset({"times", "state"}),
        passes_over_others=False,
        max_file_bytes={"picture": service.max_message_bytes},
        max_other_bytes=2 * service.tokens.max_state_bytes,  # base64 takes 4/3
    )


@asynccontextmanager
async def _receive(request: Request, layout: FormLayout) -> AsyncIterator[_Sent]:
    """What the body brings. Raises MalformedRequest where that is neither pictures nor a file."""
    async with spooling(request, layout) as spool:
        await spool.finished
        state, pictures, times = request.headers.get(STATE_HEADER), None, None
        if spool.form is not None:
            texts = spool.form.texts
            state = texts.get("state", state)
            if len({part.field for part in spool.form.files}) > 1:
                raise MalformedRequest("The form has a file 'file' and pictures: send one or the other.")
            if spool.form.files[0].field == "picture":
                pictures = _SpooledPictures(spool.descriptor, spool.form.files)
                times = _times(texts.get("times"), len(pictures))
            elif "times" in texts:
                raise MalformedRequest("The form has 'times' and no pictures: a file has its own times.")
        yield _Sent(state, pictures, times, spool.descriptor, spool.seconds)


def _times(text: str | None, num_pictures: int) -> list[float] | None:
    if text is None:
        return None
    try:
        times = _TIMES.validate_json(text)
    except ValidationError as error:
        raise MalformedRequest("The form's field 'times' is not a JSON list of seconds, 1e12 at most.") from error
    if len(times) != num_pictures:
        raise MalformedRequest(f"There are {len(times)} times for {num_pictures} pictures.")
    if times != sorted(times):
        raise MalformedRequest("The form's field 'times' runs backwards.")
    return times
