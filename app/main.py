"""The service, wired. Everything that does work is elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import av
import torch
from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app import __version__
from app.api import classify, health, models, openapi, problems
from app.api.admission import Admission
from app.api.observe import Observe
from app.api.service import Service
from app.config import Settings
from app.media.request import MediaLimits
from app.media.sandbox import DecoderPool
from app.models.batching import Scheduler
from app.models.store import ModelStore, open_store
from app.pipelines.classify import ClassifyPipeline
from app.pipelines.segments import SegmentRules
from app.telemetry import Telemetry

UPLOAD_PATHS = frozenset({"/classify"})


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application; loads models and starts its workers when the server starts it.

    Raises ModelRejected then, if a model in the store is not what it claims.
    """
    telemetry = Telemetry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        store = await to_thread.run_sync(_open_store, settings)
        decoders = _decoder_pool(settings)
        scheduler = Scheduler(settings.inference_threads, settings.max_batch_size, on_batch=telemetry.on_batch)
        await decoders.start()
        scheduler.start()
        try:
            await to_thread.run_sync(scheduler.warm_up, store.models())
            _watch(telemetry, store, decoders, scheduler)
            rules = SegmentRules(
                settings.segment_smoothing_seconds, settings.segment_margin, settings.segment_shortest_seconds
            )
            pipeline = ClassifyPipeline(decoders, scheduler, rules)
            yield {"service": Service(store, pipeline, telemetry, settings.deadline_seconds)}
        finally:
            await decoders.close()
            await to_thread.run_sync(scheduler.close)

    app = FastAPI(
        title="Afterframe",
        version=__version__,
        summary="Understands video with recurrent networks.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.add_middleware(
        Admission,
        telemetry=telemetry,
        paths=UPLOAD_PATHS,
        max_requests=settings.max_requests,
        max_upload_bytes=settings.max_upload_bytes,
    )
    app.add_middleware(Observe, telemetry=telemetry)
    problems.install(app)
    for router in (classify.router, models.router, health.router):
        app.include_router(router)
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    openapi.install(app)
    return app


def _open_store(settings: Settings) -> ModelStore:
    torch.set_num_threads(1)  # of this thread: the golden checks would else fight for the cores with everything else
    defaults = {"classify": settings.default_model_classify} if settings.default_model_classify else {}
    return open_store(settings.model_store, settings.models or None, settings.device, defaults)


def _decoder_pool(settings: Settings) -> DecoderPool:
    return DecoderPool(
        num_workers=settings.decoder_workers,
        worker_memory_bytes=settings.decoder_memory_bytes,
        jobs_per_worker=settings.decoder_jobs_per_worker,
        limits=MediaLimits(settings.max_duration_seconds, settings.max_pixels, settings.max_streams),
    )


def _watch(telemetry: Telemetry, store: ModelStore, decoders: DecoderPool, scheduler: Scheduler) -> None:
    telemetry.build_info.labels(__version__, torch.__version__, av.ffmpeg_version_info).set(1)
    for model in store.models():
        manifest = model.manifest
        telemetry.model_info.labels(manifest.name, manifest.version, manifest.task, model.digest).set(1)
    watch = telemetry.watch
    watch("afterframe_decoder_queue_depth", "Uploads waiting for a decoder worker.", lambda: decoders.waiting_requests)
    watch("afterframe_decoder_workers", "Decoder worker processes.", lambda: decoders.num_workers)
    watch("afterframe_decoder_workers_idle", "Decoder workers with nothing to do.", lambda: decoders.idle_workers)
    watch("afterframe_inference_queue_depth", "Clips and chunks waiting for a model.", lambda: scheduler.waiting)
    telemetry.watch_counts(
        "afterframe_decoder_worker_restarts", "Decoder workers replaced.", "reason", lambda: decoders.restarts
    )
