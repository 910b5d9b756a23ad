"""What works behind the routes, started with the server and ended with it. Wiring only."""

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import av
import torch
from anyio import CapacityLimiter, to_thread

from app import __version__
from app.api.places import Places
from app.api.service import Service, StreamService
from app.config import Settings
from app.media.confinement import LAYERS
from app.media.ffmpeg import check_ffmpeg
from app.media.live import LiveDecoders
from app.media.request import MediaLimits
from app.media.sandbox import REPLACED, DecoderPool
from app.models.batching import Scheduler
from app.models.rehearsal import rehearse
from app.models.reload import StoreWatcher
from app.models.store import ModelStore, Selection, open_store
from app.models.tokens import StateTokens
from app.pipelines.caption import CaptionPipeline
from app.pipelines.classify import ClassifyPipeline
from app.pipelines.features import FeaturesPipeline
from app.pipelines.picture_jobs import PictureDecoder
from app.pipelines.predict import PredictPipeline
from app.pipelines.segments import RuleOverrides
from app.pipelines.sessions import Sessions
from app.telemetry import Telemetry

PICTURE_JOBS_PER_WORKER = 20_000
"""One picture is a job. Workers are replaced because libraries leak, and a picture leaks next to nothing."""


@asynccontextmanager
async def running_service(settings: Settings, telemetry: Telemetry, places: Places) -> AsyncIterator[Service]:
    """Loads and warms up the models and starts the workers; ends them when the context does.

    Raises ModelRejected if a model in the store is not what it claims, OutdatedLibrary for an FFmpeg with known holes.
    """
    check_ffmpeg()
    opening = asyncio.create_task(to_thread.run_sync(_open_store, settings))
    decoders = _decoder_pool(settings, settings.decoder_workers, num_spares=1)
    arriving = _decoder_pool(settings, settings.arriving_workers)
    scheduler = _scheduler(settings, telemetry)
    try:
        await decoders.start()
        await arriving.start()
        store = await opening
        scheduler.start()
        await to_thread.run_sync(scheduler.warm_up, store.models())
        watcher = _store_watcher(settings, store, telemetry)
        overrides = RuleOverrides(
            settings.segment_smoothing_seconds, settings.segment_margin, settings.segment_shortest_seconds
        )
        async with (
            watcher.looking(settings.model_poll_seconds),
            _stream_service(settings, store, decoders, scheduler, overrides) as streams,
        ):
            _watch(telemetry, decoders, arriving, scheduler, watcher)
            _watch_streams(telemetry, streams)
            _watch_restarts(telemetry, lambda: decoders.restarts + arriving.restarts + streams.pictures.restarts)
            _keep_for_good()
            yield Service(
                store=store,
                classify=ClassifyPipeline(decoders, scheduler, overrides),
                predict=PredictPipeline(decoders, scheduler),
                features=FeaturesPipeline(decoders, scheduler, settings.max_feature_values),
                caption=CaptionPipeline(decoders, scheduler),
                stream=streams,
                arriving=arriving,
                encoders=CapacityLimiter(settings.inference_threads),
                telemetry=telemetry,
                places=places,
                deadline_seconds=settings.deadline_seconds,
                faults=lambda: _faults(decoders, arriving, streams.pictures, watcher),
            )
    finally:
        await decoders.close()
        await arriving.close()
        await to_thread.run_sync(scheduler.close)


def _keep_for_good() -> None:
    """Exempts what is allocated by now from later collections: each would take 113 ms, in which nobody is answered."""
    gc.collect()
    gc.freeze()
    gc.enable()  # `python -m app` starts without


def _open_store(settings: Settings) -> ModelStore:
    defaults = {
        "classify": settings.default_model_classify,
        "predict": settings.default_model_predict,
        "features": settings.default_model_features,
        "caption": settings.default_model_caption,
    }
    named = {task: name for task, name in defaults.items() if name}
    return open_store(settings.model_store, settings.models or None, settings.device, named, settings.precision)


def _decoder_pool(settings: Settings, num_workers: int, num_spares: int = 0) -> DecoderPool:
    return DecoderPool(
        num_workers=num_workers,
        num_spares=num_spares,
        worker_memory_bytes=settings.decoder_memory_bytes,
        worker_cpu_seconds=_longest_job_seconds(settings),
        jobs_per_worker=settings.decoder_jobs_per_worker,
        limits=MediaLimits(settings.max_duration_seconds, settings.max_pixels, settings.max_streams),
    )


def _scheduler(settings: Settings, telemetry: Telemetry) -> Scheduler:
    return Scheduler(
        settings.inference_threads,
        settings.max_batch_size,
        batch_wait_seconds=settings.batch_wait_seconds,
        on_batch=telemetry.on_batch,
    )


def _longest_job_seconds(settings: Settings) -> int:
    """The most that a decoder can need: for an upload answered in events, or a stream, that lasts as long as it may."""
    return math.ceil(settings.session_total_seconds + settings.deadline_seconds)


@asynccontextmanager
async def _stream_service(
    settings: Settings, store: ModelStore, decoders: DecoderPool, scheduler: Scheduler, overrides: RuleOverrides
) -> AsyncIterator[StreamService]:
    limits = MediaLimits(settings.session_total_seconds, settings.max_pixels, settings.max_streams)
    memory_bytes, cpu_seconds = settings.decoder_memory_bytes, _longest_job_seconds(settings)
    pictures = DecoderPool(settings.picture_workers, memory_bytes, cpu_seconds, PICTURE_JOBS_PER_WORKER, limits)
    decoder = PictureDecoder(pictures)
    live = LiveDecoders(settings.max_live_decoders, memory_bytes, limits, cpu_seconds)
    sessions = Sessions(
        scheduler,
        decoder,
        live,
        overrides,
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
            max_values=settings.max_feature_values,
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


def _watch_restarts(telemetry: Telemetry, restarts: Callable[[], Mapping[str, int]]) -> None:
    telemetry.watch_counts(
        "afterframe_decoder_worker_restarts",
        "Decoder workers replaced, of uploads, arriving or here, and of pictures.",
        "reason",
        lambda: {**dict.fromkeys(REPLACED, 0), **restarts()},
    )


def _store_watcher(settings: Settings, store: ModelStore, telemetry: Telemetry) -> StoreWatcher:
    def tell() -> None:
        telemetry.model_info.clear()
        for model in store.models():
            manifest = model.manifest
            telemetry.model_info.labels(manifest.name, manifest.version, manifest.task, model.digest).set(1)

    tell()
    load = partial(rehearse, device=settings.device, choice=settings.precision)
    return StoreWatcher(settings.model_store, Selection(settings.models), store, load, tell)


def _faults(decoders: DecoderPool, arriving: DecoderPool, pictures: PictureDecoder, watcher: StoreWatcher) -> list[str]:
    """What does not stop the service but should be repaired. The log says more."""
    faults = [f"decoder workers run without {layer}" for layer in decoders.missing_layers]
    if num_missing := decoders.num_missing + arriving.num_missing + pictures.num_missing:
        faults.append(f"decoder workers that were lost and cannot be replaced: {num_missing}")
    return faults + [f"{what} has a fault, which the log describes" for what in watcher.faults]


def _watch(
    telemetry: Telemetry, decoders: DecoderPool, arriving: DecoderPool, scheduler: Scheduler, watcher: StoreWatcher
) -> None:
    telemetry.build_info.labels(__version__, torch.__version__, av.ffmpeg_version_info).set(1)
    for layer in LAYERS:
        telemetry.confinement.labels(layer).set(layer not in decoders.missing_layers)
    watch = telemetry.watch
    watch("afterframe_decoder_queue_depth", "Uploads waiting for a decoder worker.", lambda: decoders.waiting_requests)
    watch("afterframe_decoder_workers", "Decoder worker processes.", lambda: decoders.living_workers)
    watch("afterframe_decoder_workers_idle", "Decoder workers with nothing to do.", lambda: decoders.idle_workers)
    watch("afterframe_arriving_workers_idle", "Workers for uploads still being sent.", lambda: arriving.idle_workers)
    watch("afterframe_inference_queue_depth", "Clips and chunks waiting for a model.", lambda: scheduler.waiting)
    watch(
        "afterframe_model_store_faults",
        "Versions in the store that are not served, or not as they are there.",
        lambda: len(watcher.faults),
    )
    telemetry.watch_counts(
        "afterframe_model_versions",
        "Versions found while running, by what became of them.",
        "outcome",
        lambda: watcher.outcomes,
    )
