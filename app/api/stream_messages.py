"""What clients of a stream send, version 1: the query, the messages over the WebSocket, and state tokens."""

import base64
import binascii
import struct
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from app.api.problems import complaint
from app.errors import InvalidStateToken, MalformedRequest

SCHEMA_VERSION = 1

PICTURE_HEADER = struct.Struct("<d")
"""Before each picture in a binary message: from when on it is on display, in seconds, little-endian float64."""

MAX_IN_FLIGHT = 32


def encode_state(token: bytes) -> str:
    """A state token as JSON carries it."""
    return base64.b64encode(token).decode()


def decode_state(text: str) -> bytes:
    """The token in `text`; raises InvalidStateToken where that is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidStateToken("The state is not base64.") from error


class StreamQuery(BaseModel):
    """Query of /stream and /stream/steps."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="Without one: that of the state, else the default classifier.")
    version: str | None = Field(default=None, description="Without one: that of the state, else the newest.")


class SocketQuery(StreamQuery):
    """Query of the WebSocket /stream."""

    state: Literal["false", "true", "binary"] = "false"
    """true: answers carry state tokens; binary: each follows its answer as a binary message."""


class _ClientMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Start(_ClientMessage):
    """The first message. With `session` it goes on with that session, else it begins a new one."""

    type: Literal["start"]
    schema_version: Literal[1] = 1
    kind: Literal["pictures", "encoded"] = "pictures"
    """What the binary messages are: pictures, each after its time (float64, little-endian), or parts of one file."""
    backpressure: Literal["drop", "block"] = "block"
    """Of pictures that come too fast: the oldest that wait are dropped, or no more are read from the socket."""
    max_in_flight: int = Field(default=4, ge=1, le=MAX_IN_FLIGHT)
    """Pictures that wait, beside those that are worked on."""
    pace: Literal["each", "model"] = "each"
    """Each picture is a step, or one for each step at the model's rate: those that come between are passed over."""
    state: str | None = None
    """A token to go on from, base64."""
    session: str | None = Field(default=None, max_length=64)
    acknowledged: int | None = Field(default=None, ge=0)
    """With `session`: the last step the client has; what came after is sent again. Without: all since it began."""

    @model_validator(mode="after")
    def _one_past(self) -> Self:
        if self.session is not None and self.state is not None:
            raise ValueError("session and state cannot be given together: a session has its own state")
        return self


class Acknowledge(_ClientMessage):
    """The client has every answer up to `sequence`: they need not be kept for it."""

    type: Literal["acknowledge"]
    sequence: int = Field(ge=0)


class AskState(_ClientMessage):
    """Asks for a state token now."""

    type: Literal["state"]


class Rewind(_ClientMessage):
    """Goes on from `state` instead; pictures that wait are dropped."""

    type: Literal["rewind"]
    state: str


class End(_ClientMessage):
    """No more will be sent; `done` follows once everything is judged."""

    type: Literal["end"]


ClientMessage = Acknowledge | AskState | Rewind | End | Start
_CLIENT_MESSAGE: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])


def read_message(text: str) -> ClientMessage:
    """A client's message; raises MalformedRequest for anything else."""
    try:
        return _CLIENT_MESSAGE.validate_json(text)
    except ValidationError as error:
        raise MalformedRequest(f"The message is not valid in version {SCHEMA_VERSION}: {complaint(error)}") from error


def client_schemas() -> dict[str, Any]:
    """JSON Schema of all that a client may say."""
    return _CLIENT_MESSAGE.json_schema()
