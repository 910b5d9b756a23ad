"""Liveness, readiness and metrics. They always answer, however full the service is."""

from fastapi import APIRouter, Request, Response

from app.api import schemas
from app.api.openapi import PROBLEM
from app.api.service import service_of
from app.errors import NotReady
from app.telemetry import CONTENT_TYPE

PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})
router = APIRouter(tags=["health"])


@router.get("/health/live", summary="The process answers")
async def live() -> schemas.Health:
    return schemas.Health(status="live")


@router.get("/health/ready", summary="Models are loaded, checked and warm", responses={503: PROBLEM})
async def ready(request: Request) -> schemas.Readiness:
    """200 once every model has reproduced its golden output and every first call has been made, until told to stop."""
    service = service_of(request)
    if service.places.is_stopping:
        raise NotReady
    faults = service.faults()
    return schemas.Readiness(status="degraded" if faults else "ready", faults=faults)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    return Response(service_of(request).telemetry.render(), media_type=CONTENT_TYPE)
