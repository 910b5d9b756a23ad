"""GET /models: what is served, and how good it is."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.api.openapi import PROBLEM
from app.api.service import Service, service_of
from app.models.manifest import CaptionOutput, FeaturesOutput, PredictOutput, Task
from app.models.precision import Precision
from app.models.store import ServedModel

router = APIRouter(prefix="/models", tags=["models"])


class ModelVersion(BaseModel):
    """The public part of a manifest. A field that its task does not have is null."""

    version: str
    digest: str
    task: Task
    summary: str
    media: Literal["video", "audio"] = Field(description="What it needs: a picture or a sound track.")
    labels: list[str] | None
    frame_rate: float | None = Field(description="Of the frames it is given, and of those it predicts.")
    observed_frames: int | None = Field(description="Frames that a forecast continues from.")
    max_horizon: int | None = Field(description="Most frames that it predicts.")
    num_words: int | None = Field(description="In its vocabulary.")
    max_length: int | None = Field(description="Most words of a comment, punctuation marks included.")
    dimension: int | None = Field(description="Numbers in the vector of a clip.")
    step_dimension: int | None = Field(description="Numbers in the vector of a step.")
    hop_seconds: float | None = Field(description="From one step to the next.")
    num_mels: int | None = Field(description="Bands of its log-mel spectrogram.")
    sample_rate: int | None = Field(description="Rate that sound is resampled to, in Hz.")
    trained_for_key_frames: bool = Field(
        description="Trained on key frames, as `sampling=fast` gives them; other models may answer worse on them."
    )
    causal: bool = Field(description="Can judge step by step: timelines.")
    cell: str
    num_parameters: int
    precision: Precision = Field(description="What it computes in on this machine.")
    metrics: dict[str, dict[str, float]] = Field(description="By test set, then by metric.")
    license: str
    date: str


class Model(BaseModel):
    """A served model; its newest version answers unless one is asked for."""

    name: str
    default: bool = Field(description="Answers when no model is asked for.")
    versions: list[ModelVersion] = Field(description="Newest first.")


class Models(BaseModel):
    models: list[Model]


class CardQuery(BaseModel):
    """Query of GET /models/{name}/card."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(default=None, description="The newest otherwise.")


@router.get("", summary="All models")
async def list_models(request: Request) -> Models:
    """Every model served, with its versions, labels and metrics."""
    service = service_of(request)
    return Models(models=[_model(service, name) for name in service.store.names()])


@router.get("/{name}", summary="One model", responses={404: PROBLEM})
async def show_model(request: Request, name: str) -> Model:
    """One model with all its versions, newest first."""
    return _model(service_of(request), name)


@router.get(
    "/{name}/card",
    summary="A model's card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}, 404: PROBLEM},
)
async def show_card(request: Request, name: str, query: Annotated[CardQuery, Query()]) -> Response:
    """Data, licence, split, metrics, seed, command and limits, as Markdown."""
    return Response(service_of(request).store.get(name, query.version).card, media_type="text/markdown")


def _model(service: Service, name: str) -> Model:
    versions = [service.store.get(name, version) for version in reversed(service.store.versions(name))]
    default = service.store.get(task=versions[0].manifest.task)
    return Model(
        name=name,
        default=default.manifest.name == name,
        versions=[_version(version) for version in versions],
    )


def _version(model: ServedModel) -> ModelVersion:
    manifest = model.manifest
    output, wanted = manifest.output, manifest.input
    describes = output if isinstance(output, FeaturesOutput) else None
    forecasts = output if isinstance(output, PredictOutput) else None
    comments = output if isinstance(output, CaptionOutput) else None
    return ModelVersion(
        version=manifest.version,
        digest=model.digest,
        task=manifest.task,
        summary=manifest.summary,
        media=wanted.media,
        labels=manifest.labels,
        frame_rate=wanted.rate,
        observed_frames=wanted.clip_length if forecasts else None,
        max_horizon=forecasts.max_horizon if forecasts else None,
        num_words=len(comments.vocabulary) if comments else None,
        max_length=comments.max_length if comments else None,
        dimension=describes.dimension if describes else None,
        step_dimension=describes.step_dimension if describes else None,
        hop_seconds=describes.hop_seconds if describes else None,
        num_mels=describes.num_mels if describes else None,
        sample_rate=wanted.sample_rate,
        trained_for_key_frames=wanted.trained_for_key_frames,
        causal=manifest.causal,
        cell=manifest.cell,
        num_parameters=manifest.num_parameters,
        precision=model.precision,
        metrics=manifest.metrics,
        license=manifest.license,
        date=manifest.date.isoformat(),
    )
