"""What the routes work with, made once by `app.lifespan` and kept by the application."""

from collections.abc import Callable
from dataclasses import dataclass

from anyio import CapacityLimiter
from starlette.requests import HTTPConnection

from app.api.places import Places
from app.media.sandbox import DecoderPool
from app.models.store import ModelStore
from app.models.tokens import StateTokens
from app.pipelines.caption import CaptionPipeline
from app.pipelines.classify import ClassifyPipeline
from app.pipelines.features import FeaturesPipeline
from app.pipelines.picture_jobs import PictureDecoder
from app.pipelines.predict import PredictPipeline
from app.pipelines.sessions import Sessions
from app.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class StreamService:
    """What /stream and /stream/steps work with."""

    store: ModelStore
    tokens: StateTokens
    sessions: Sessions
    decoders: DecoderPool
    """For uploads."""
    pictures: PictureDecoder
    """For single pictures: they never wait behind a file."""
    max_message_bytes: int
    """Of a WebSocket message, and of a picture in a form."""
    max_values: int
    """Numbers in the vectors of one answer to a file."""
    idle_seconds: float
    """Without a message from the client, a session ends."""
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Service:
    store: ModelStore
    classify: ClassifyPipeline
    predict: PredictPipeline
    features: FeaturesPipeline
    caption: CaptionPipeline
    stream: StreamService
    arriving: DecoderPool
    """For uploads that are still being sent."""
    encoders: CapacityLimiter
    """How many answers are encoded at once: a large one takes a core, and 65 bytes for each number in it."""
    telemetry: Telemetry
    places: Places
    deadline_seconds: float
    """From the last byte of an upload to its answer."""
    faults: Callable[[], list[str]]
    """What does not stop the service but should be repaired; for the operator."""


def service_of(request: HTTPConnection) -> Service:
    """The service that answers `request`."""
    service: Service = request.state.service
    return service
