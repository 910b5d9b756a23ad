"""GET /models: what is served, and how good it is."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from app.api import schemas
from app.api.openapi import PROBLEM
from app.api.service import Service, service_of
from app.models.store import ServedModel

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="All models")
async def list_models(request: Request) -> schemas.Models:
    """Every model served, with its versions, labels and metrics."""
    service = service_of(request)
    return schemas.Models(models=[_model(service, name) for name in service.store.names()])


@router.get("/{name}", summary="One model", responses={404: PROBLEM})
async def show_model(request: Request, name: str) -> schemas.Model:
    """One model with all its versions, newest first."""
    return _model(service_of(request), name)


@router.get(
    "/{name}/card",
    summary="A model's card",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {}}}, 404: PROBLEM},
)
async def show_card(request: Request, name: str, version: str | None = None) -> PlainTextResponse:
    """Data, licence, split, metrics, seed, command and limits, as Markdown."""
    return PlainTextResponse(service_of(request).store.get(name, version).card, media_type="text/markdown")


def _model(service: Service, name: str) -> schemas.Model:
    versions = [service.store.get(name, version) for version in reversed(service.store.versions(name))]
    default = service.store.get(task=versions[0].manifest.task)
    return schemas.Model(
        name=name,
        default=default.manifest.name == name,
        versions=[_version(version) for version in versions],
    )


def _version(model: ServedModel) -> schemas.ModelVersion:
    manifest = model.manifest
    return schemas.ModelVersion(
        version=manifest.version,
        digest=model.digest,
        task=manifest.task,
        summary=manifest.summary,
        labels=list(manifest.output.labels),
        causal=manifest.causal,
        cell=manifest.cell,
        num_parameters=manifest.num_parameters,
        metrics=manifest.metrics,
        license=manifest.license,
        date=manifest.date.isoformat(),
    )
