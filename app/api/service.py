"""What the routes work with, made once by `app.main` and kept by the application."""

from dataclasses import dataclass

from fastapi import Request

from app.models.store import ModelStore
from app.pipelines.classify import ClassifyPipeline
from app.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Service:
    store: ModelStore
    classify: ClassifyPipeline
    telemetry: Telemetry
    deadline_seconds: float
    """From the last byte of an upload to its answer."""


def service_of(request: Request) -> Service:
    """The service that answers `request`."""
    service: Service = request.state.service
    return service
