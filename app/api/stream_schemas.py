"""What a stream answers, version 1, over the WebSocket and over HTTP."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter

from app.api.schemas import Label, ModelRef, Rounded, rounded
from app.api.service import StreamService
from app.api.stream_messages import SCHEMA_VERSION, client_schemas
from app.models.manifest import ClassifyOutput
from app.pipelines.readings import StreamEnd
from app.pipelines.session import Session
from app.pipelines.stream import Stream, StreamStep


class Limits(BaseModel):
    max_in_flight: int
    max_message_bytes: int
    idle_seconds: float
    """Without a message from the client, the session ends."""
    total_seconds: float
    resume_seconds: float
    """For so long a session waits for a client that was cut off."""


class Welcome(BaseModel):
    """The session is open."""

    type: Literal["welcome"] = "welcome"
    schema_version: Literal[1] = 1
    session: str
    """A secret: who knows it can go on with the session."""
    model: ModelRef
    task: Literal["classify", "predict", "features"]
    labels: list[str] | None = None
    """`scores`, `smoothed` and `so_far` are in this order."""
    rate: float
    """Steps a second that the model was trained for: send as many pictures."""
    sequence: int
    """The last step taken."""
    seconds: Rounded
    """When the next step begins, if it follows without a gap."""
    received: int
    """Pictures, or bytes of the encoded stream, that have come: a client that was cut off goes on from there."""
    limits: Limits

    @classmethod
    def of(cls, session: Session, service: StreamService) -> Self:
        model, stream = session.stream.model, session.stream
        return cls(
            session=session.id,
            model=ModelRef.of(model),
            task=model.manifest.task,
            labels=model.manifest.labels,
            rate=stream.rate,
            sequence=stream.sequence,
            seconds=stream.seconds,
            received=session.source.num_received,
            limits=Limits(
                max_in_flight=session.options.max_in_flight,
                max_message_bytes=service.max_message_bytes,
                idle_seconds=service.idle_seconds,
                total_seconds=service.total_seconds,
                resume_seconds=service.sessions.resume_seconds,
            ),
        )


class OpenedSegment(BaseModel):
    label: str
    start_seconds: Rounded


class ClosedSegment(OpenedSegment):
    """[start_seconds, end_seconds)"""

    end_seconds: Rounded
    score: Rounded
    """Mean over the segment."""


class Step(BaseModel):
    """What one step says. What the model's task does not have is left out."""

    type: Literal["step"] = "step"
    sequence: int
    """1 for the first step of the stream, across sessions and tokens."""
    seconds: Rounded
    """When the step begins."""
    picture: int | None = None
    """The number of its picture among all that the session received, from 0."""
    dropped: int | None = None
    """Pictures dropped so far."""
    about_seconds: Rounded | None = None
    """The moment that `scores` are about, where the model answers late; its first steps have no scores."""
    scores: list[float] | None = None
    """Of this moment alone."""
    smoothed: list[float] | None = None
    """Mean of `scores` over the last half second or second (a setting of the service)."""
    so_far: list[float] | None = None
    """Of everything since the stream began."""
    opened: list[OpenedSegment] | None = None
    closed: list[ClosedSegment] | None = None
    surprise: Rounded | None = None
    """How far the frame is from its forecast, in [0, 1]; a first frame has none."""
    features: list[float] | None = None
    state: str | None = None
    """A token to go on from, base64: where pictures come one at a time, every answer has one."""

    @classmethod
    def of(cls, step: StreamStep) -> Self:
        reading = step.reading
        return cls(
            sequence=step.sequence,
            seconds=step.seconds,
            about_seconds=reading.about_seconds,
            scores=_listed(reading.scores),
            smoothed=_listed(reading.smoothed),
            so_far=_listed(reading.so_far),
            opened=[OpenedSegment.model_validate(one, from_attributes=True) for one in reading.opened] or None,
            closed=[ClosedSegment.model_validate(one, from_attributes=True) for one in reading.closed] or None,
            surprise=reading.surprise,
            features=_listed(reading.features),
        )


class Problem(BaseModel):
    """Like problem+json. On its own it concerns one picture, which was passed over; the session goes on."""

    type: Literal["problem"] = "problem"
    picture: int | None = None
    title: str
    status: int
    detail: str


class State(BaseModel):
    """The token asked for. Null before the first step; in a session with `state=binary` the next message instead."""

    type: Literal["state"] = "state"
    sequence: int
    seconds: Rounded
    state: str | None = None


class Rewound(BaseModel):
    """The stream stands where the state was: the next step is `sequence` + 1."""

    type: Literal["rewound"] = "rewound"
    sequence: int
    seconds: Rounded
    received: int


class Done(BaseModel):
    """Everything sent was judged; the socket closes with 1000."""

    type: Literal["done"] = "done"
    sequence: int
    seconds: Rounded
    labels: list[Label] | None = None
    """Of all that was seen or heard, best first."""
    closed: list[ClosedSegment] | None = None
    """The segments that were open."""
    clip: list[float] | None = None
    """The vector of all that was heard."""
    dropped: int = 0
    passed: int = 0
    """With `pace: model`: pictures that came between two steps."""
    state: str | None = None

    @classmethod
    def of(cls, stream: Stream, end: StreamEnd | None, dropped: int = 0, passed: int = 0) -> Self:
        output = stream.model.manifest.output
        labels = None
        if end is not None and end.so_far is not None and isinstance(output, ClassifyOutput):
            order = np.argsort(-end.so_far, kind="stable")
            labels = [Label(label=output.labels[i], score=float(end.so_far[i])) for i in order]
        return cls(
            sequence=stream.sequence,
            seconds=stream.seconds,
            labels=labels,
            closed=[ClosedSegment.model_validate(one, from_attributes=True) for one in end.closed] if end else [],
            clip=_listed(end.clip) if end else None,
            dropped=dropped,
            passed=passed,
        )


class Closing(BaseModel):
    """The service ends the session; the socket closes next, with `code`."""

    type: Literal["closing"] = "closing"
    code: int
    title: str
    detail: str
    retry_after_seconds: int | None = None
    state: str | None = None
    """Where the stream stands: another session, or another replica, can go on from here."""


ServerMessage = Annotated[Welcome | Step | Problem | State | Rewound | Done | Closing, Field(discriminator="type")]


def message_schemas() -> dict[str, Any]:
    """JSON Schemas of what either side may say."""
    return {
        "schema_version": SCHEMA_VERSION,
        "client": client_schemas(),
        "server": TypeAdapter(ServerMessage).json_schema(mode="serialization"),
    }


def _listed(values: NDArray[np.floating] | None) -> list[float] | None:
    return None if values is None else rounded(values)
