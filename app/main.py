"""The service, wired. Everything that does work is elsewhere."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import av
import torch
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app import __version__
from app.api import classify, features, health, models, openapi, predict, problems, stream, stream_steps
from app.api.admission import Admission
from app.api.departure import Departure
from app.api.observe import Observe
from app.api.service import Service, StreamService
from app.config import Settings
from app.media.live import LiveDecoders
from app.media.request import MediaLimits
from app.media.sandbox import DecoderPool
from app.models.batching import Scheduler
from app.models.store import ModelStore, open_store
from app.models.tokens import StateTokens
from app.pipelines.classify import ClassifyPipeline
from app.pipelines.features import FeaturesPipeline
from app.pipelines.picture_jobs import PictureDecoder
from app.pipelines.predict import PredictPipeline
from app.pipelines.segments import SegmentRules
from app.pipelines.sessions import Sessions
from app.telemetry import Telemetry

CAPABILITIES = (classify, predict, features, stream_steps)
"""Each takes uploads, which need a place."""

PICTURE_JOBS_PER_WORKER = 20_000
"""One picture is a job; a worker is replaced for what libraries leak, of which a picture leaves next to nothing."""


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application; loads models and starts its workers when the server starts it.

    Raises ModelRejected then, if a model in the store is not what it claims.
    """
    telemetry = Telemetry()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        store = await to_thread.run_sync(_open_store, settings)
        decoders = _decoder_pool(settings, settings.decoder_workers)
        arriving = _decoder_pool(settings, settings.arriving_workers)
        scheduler = Scheduler(
            settings.inference_threads,
            settings.max_batch_size,
            batch_wait_seconds=settings.batch_wait_seconds,
            on_batch=telemetry.on_batch,
        )
        await decoders.start()
        await arriving.start()
        scheduler.start()
        try:
            await to_thread.run_sync(scheduler.warm_up, store.models())
            _watch(telemetry, store, decoders, arriving, scheduler)
            rules = SegmentRules(
                settings.segment_smoothing_seconds, settings.segment_margin, settings.segment_shortest_seconds
            )
            async with _stream_service(settings, store, decoders, scheduler, rules) as streams:
                _watch_streams(telemetry, streams)
                yield {
                    "service": Service(
                        store=store,
                        classify=ClassifyPipeline(decoders, scheduler, rules),
                        predict=PredictPipeline(decoders, scheduler),
                        features=FeaturesPipeline(decoders, scheduler, settings.max_feature_values),
                        stream=streams,
                        arriving=arriving,
                        encoders=CapacityLimiter(settings.inference_threads),
                        telemetry=telemetry,
                        deadline_seconds=settings.deadline_seconds,
                    )
                }
        finally:
            await decoders.close()
            await arriving.close()
            await to_thread.run_sync(scheduler.close)

    app = FastAPI(
        title="Afterframe",
        version=__version__,
        summary="Understands video and sound with recurrent networks.",
        lifespan=lifespan,
        redoc_url=None,
    )
    app.add_middleware(
        Admission,
        telemetry=telemetry,
        paths=frozenset(capability.PATH for capability in CAPABILITIES),
        max_requests=settings.max_requests,
        max_upload_bytes=settings.max_upload_bytes,
    )
    app.add_middleware(Departure, paths=frozenset(capability.PATH for capability in CAPABILITIES))
    app.add_middleware(Observe, telemetry=telemetry)
    problems.install(app)
    for part in (*CAPABILITIES, stream, models, health):
        app.include_router(part.router)
    app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    openapi.install(app)
    return app


def _open_store(settings: Settings) -> ModelStore:
    torch.set_num_threads(1)  # of this thread: the golden checks would else fight for the cores with everything else
    defaults = {
        "classify": settings.default_model_classify,
        "predict": settings.default_model_predict,
        "features": settings.default_model_features,
    }
    named = {task: name for task, name in defaults.items() if name}
    return open_store(settings.model_store, settings.models or None, settings.device, named)


def _decoder_pool(settings: Settings, num_workers: int) -> DecoderPool:
    return DecoderPool(
        num_workers=num_workers,
        worker_memory_bytes=settings.decoder_memory_bytes,
        jobs_per_worker=settings.decoder_jobs_per_worker,
        limits=MediaLimits(settings.max_duration_seconds, settings.max_pixels, settings.max_streams),
    )


@asynccontextmanager
async def _stream_service(
    settings: Settings, store: ModelStore, decoders: DecoderPool, scheduler: Scheduler, rules: SegmentRules
) -> AsyncIterator[StreamService]:
    limits = MediaLimits(settings.session_total_seconds, settings.max_pixels, settings.max_streams)
    pictures = DecoderPool(settings.picture_workers, settings.decoder_memory_bytes, PICTURE_JOBS_PER_WORKER, limits)
    decoder = PictureDecoder(pictures)
    live = LiveDecoders(settings.max_live_decoders, settings.decoder_memory_bytes, limits)
    sessions = Sessions(
        scheduler,
        decoder,
        live,
        rules,
        max_sessions=settings.max_sessions,
        max_seconds=settings.session_total_seconds,
        resume_seconds=settings.session_resume_seconds,
        decode_seconds=settings.deadline_seconds,
    )
    await pictures.start()
    try:
        yield StreamService(
            store=store,
            tokens=StateTokens(
                [key.get_secret_value() for key in settings.state_keys],
                settings.max_state_bytes,
                settings.state_seconds,
            ),
            sessions=sessions,
            decoders=decoders,
            pictures=decoder,
            max_message_bytes=settings.max_message_bytes,
            idle_seconds=settings.session_idle_seconds,
            total_seconds=settings.session_total_seconds,
        )
    finally:
        await sessions.close()
        await live.close()
        await pictures.close()


def _watch_streams(telemetry: Telemetry, streams: StreamService) -> None:
    sessions, watch = streams.sessions, telemetry.watch
    watch("afterframe_stream_sessions", "Streams over WebSocket.", lambda: sessions.num_sessions)
    watch("afterframe_live_decoders", "Decoder processes of encoded streams.", lambda: sessions.num_live_decoders)


def _watch(
    telemetry: Telemetry, store: ModelStore, decoders: DecoderPool, arriving: DecoderPool, scheduler: Scheduler
) -> None:
    telemetry.build_info.labels(__version__, torch.__version__, av.ffmpeg_version_info).set(1)
    for model in store.models():
        manifest = model.manifest
        telemetry.model_info.labels(manifest.name, manifest.version, manifest.task, model.digest).set(1)
    watch = telemetry.watch
    watch("afterframe_decoder_queue_depth", "Uploads waiting for a decoder worker.", lambda: decoders.waiting_requests)
    watch("afterframe_decoder_workers", "Decoder worker processes.", lambda: decoders.num_workers)
    watch("afterframe_decoder_workers_idle", "Decoder workers with nothing to do.", lambda: decoders.idle_workers)
    watch("afterframe_arriving_workers_idle", "Workers for uploads still being sent.", lambda: arriving.idle_workers)
    watch("afterframe_inference_queue_depth", "Clips and chunks waiting for a model.", lambda: scheduler.waiting)
    telemetry.watch_counts(
        "afterframe_decoder_worker_restarts", "Decoder workers replaced.", "reason", lambda: decoders.restarts
    )
