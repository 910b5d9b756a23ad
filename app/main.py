"""The service, as a server sees it: its routes and what a request passes before them. Wiring only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI

from app import __version__
from app.api import caption, classify, features, health, models, openapi, page, predict, problems, stream, stream_steps
from app.api.access import Access, Routes
from app.api.admission import Admission
from app.api.body import BodyLimits
from app.api.departure import Departure
from app.api.head import Head
from app.api.headers import CrossOrigin, SecurityHeaders
from app.api.keys import KeyRing
from app.api.observe import Observe
from app.api.opening import Opening
from app.api.places import Places
from app.api.query import check_repeated
from app.config import Settings
from app.lifespan import running_service
from app.telemetry import Telemetry

PARTS = (classify, predict, features, caption, stream_steps, stream, models, health, page)
"""All that have routes."""

PUBLIC = page.PATHS | {"/docs", "/openapi.json"}
"""What people read; it needs no API key."""


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application; loads models and starts its workers when the server starts it.

    Raises ModelRejected then, if a model in the store is not what it claims, or OutdatedLibrary; KeyFileRejected now.
    """
    telemetry = Telemetry()
    places = _places(settings, telemetry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with running_service(settings, telemetry, places) as service:
            yield {"service": service}

    app = FastAPI(
        title="Afterframe",
        version=__version__,
        summary="Understands video and sound with recurrent networks.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_repeated)],
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their functions
    )
    _guard(app, settings, telemetry, places)
    app.add_middleware(Opening)
    problems.install(app, settings.cors_origins)
    for part in PARTS:
        app.include_router(part.router)
    openapi.install(app, keyless=health.PATHS | PUBLIC)
    return app


def _places(settings: Settings, telemetry: Telemetry) -> Places:
    return Places(
        telemetry,
        max_requests=settings.max_requests,
        max_uploads=settings.max_uploads,
        max_spool_bytes=settings.max_spool_bytes,
        max_wait_seconds=settings.max_wait_seconds,
        num_workers=settings.decoder_workers,
    )


def _guard(app: FastAPI, settings: Settings, telemetry: Telemetry, places: Places) -> None:
    """What a request passes before a route sees it, innermost first."""
    ours = [route for part in PARTS for route in part.router.routes]
    uploads = [route for route in ours if "POST" in getattr(route, "methods", ())]  # each needs a place
    limits = BodyLimits(settings.max_upload_bytes, settings.patience_seconds, settings.min_upload_bytes_per_second)
    app.add_middleware(Head)
    app.add_middleware(Admission, uploads=uploads, places=places, limits=limits)
    app.add_middleware(Departure, uploads=uploads)
    app.add_middleware(
        Access,
        routes=Routes(
            operations=health.PATHS,
            have_own_port=settings.operations_port is not None,
            public=PUBLIC,
            streams=frozenset({stream.PATH}),
        ),
        keys=KeyRing(settings.api_keys_file) if settings.api_keys_file is not None else None,
        origins=frozenset(settings.cors_origins),
    )
    if settings.cors_origins:
        app.add_middleware(CrossOrigin, origins=settings.cors_origins)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observe, telemetry=telemetry, routes=[*app.routes, *ours])
