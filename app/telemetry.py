"""Metrics and the one log line per request. A leaf: imports nothing of ours.

Names follow Prometheus's rules: base units, plural unit suffix, `_total` for counters, no unbounded label values.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # seconds; video is slow
BATCH_SECONDS_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
REALTIME_BUCKETS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

access_logger = logging.getLogger("afterframe.access")


class Telemetry:
    """The metrics of one service; each has its own registry, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._add_requests()
        self._add_uploads()
        self._add_refusals()
        self._add_batches()
        self._add_media()
        self._add_streams()
        self._add_parts()

    def _add_requests(self) -> None:
        self.request_seconds = Histogram(
            "afterframe_http_request_duration_seconds",
            "From the request's first byte to the answer's last.",
            ("method", "route", "status"),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "afterframe_stage_duration_seconds",
            "Time of one request in one stage: upload, queue (for a decoder or a batch), decode, infer.",
            ("route", "stage"),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.first_result_seconds = Histogram(
            "afterframe_first_result_duration_seconds",
            "For answers in events: from the request's first byte to the first event.",
            ("route",),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )

    def _add_uploads(self) -> None:
        self.requests_in_flight = Gauge(
            "afterframe_requests_in_flight", "Uploads that hold a place.", registry=self.registry
        )
        self.places = Gauge("afterframe_places", "Uploads that may be worked on at once.", registry=self.registry)
        self.uploads_arriving = Gauge(
            "afterframe_uploads_arriving",
            "Uploads whose last byte has not come; they hold no place.",
            registry=self.registry,
        )
        self.spool_bytes = Gauge("afterframe_spool_bytes", "Bytes of uploads on disk.", registry=self.registry)

    def _add_refusals(self) -> None:
        self.connections_ended = Counter(
            "afterframe_connections_ended_total",
            "Connections ended by the service because of what their client did.",
            ("reason",),
            registry=self.registry,
        )
        self.rejections = Counter(
            "afterframe_requests_rejected_total",
            "Requests refused before anything was done for them.",
            ("reason",),
            registry=self.registry,
        )

    def _add_batches(self) -> None:
        self.batch_size = Histogram(
            "afterframe_batch_size",
            "Clips or chunks that shared one model call.",
            ("model", "version", "method"),
            buckets=BATCH_SIZE_BUCKETS,
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "afterframe_batch_duration_seconds",
            "Time of one model call.",
            ("model", "version", "method"),
            buckets=BATCH_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.batch_wait_seconds = Histogram(
            "afterframe_batch_wait_seconds",
            "Time that a clip or chunk waited for its model call.",
            ("model", "version"),
            buckets=BATCH_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.batch_frames = Counter(
            "afterframe_inferred_frames_total", "Frames given to models.", ("model", "version"), registry=self.registry
        )

    def _add_media(self) -> None:
        self.frames = Counter(
            "afterframe_frames_total",
            "Frames of uploaded videos, decoded or skipped.",
            ("outcome",),
            registry=self.registry,
        )
        self.media_seconds = Counter(
            "afterframe_media_seconds_total", "Length of the media answered.", ("route",), registry=self.registry
        )
        self.realtime_factor = Histogram(
            "afterframe_realtime_factor",
            "Seconds of media answered per second of work: from the upload's last byte, or of decoding where that took "
            "longer because it began earlier.",
            ("route",),
            buckets=REALTIME_BUCKETS,
            registry=self.registry,
        )

    def _add_streams(self) -> None:
        self.stream_steps = Counter(
            "afterframe_stream_steps_total",
            "Steps answered to live sessions.",
            ("model", "version"),
            registry=self.registry,
        )
        self.stream_step_seconds = Histogram(
            "afterframe_stream_step_duration_seconds",
            "From the last byte of a picture to its answer.",
            ("model", "version"),
            buckets=BATCH_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.stream_ends = Counter(
            "afterframe_stream_ends_total",
            "WebSockets of /stream, by how they closed.",
            ("code",),
            registry=self.registry,
        )
        self.stream_dropped = Counter(
            "afterframe_stream_pictures_dropped_total",
            "Pictures of live sessions never judged.",
            registry=self.registry,
        )

    def _add_parts(self) -> None:
        self.model_info = Gauge(
            "afterframe_model_info",
            "1 for each model served.",
            ("model", "version", "task", "digest"),
            registry=self.registry,
        )
        self.confinement = Gauge(
            "afterframe_decoder_confinement",
            "1 for each layer that confines the decoder workers, 0 where this machine does not have it.",
            ("layer",),
            registry=self.registry,
        )
        self.build_info = Gauge(
            "afterframe_build_info",
            "1, with the versions of what runs.",
            ("version", "torch", "ffmpeg"),
            registry=self.registry,
        )

    def watch(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """A gauge read from `value` at each scrape."""
        Gauge(name, documentation, registry=self.registry).set_function(value)

    def watch_counts(self, name: str, documentation: str, label: str, counts: Callable[[], Mapping[str, int]]) -> None:
        """A counter, by one label, read from `counts` at each scrape."""
        self.registry.register(_Counts(name, documentation, label, counts))

    def on_batch(
        self,
        model: str,
        version: str,
        method: str,
        batch_size: int,
        num_frames: int,
        seconds: float,
        queue_seconds: Sequence[float],
    ) -> None:
        """Counts one model call; `queue_seconds` is what each of its clips or chunks waited for it."""
        self.batch_size.labels(model, version, method).observe(batch_size)
        self.batch_seconds.labels(model, version, method).observe(seconds)
        self.batch_frames.labels(model, version).inc(num_frames)
        for waited in queue_seconds:
            self.batch_wait_seconds.labels(model, version).observe(waited)

    def render(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _Counts(Collector):
    """Counts that something else keeps."""

    def __init__(self, name: str, documentation: str, label: str, counts: Callable[[], Mapping[str, int]]) -> None:
        self.name, self.documentation, self.label, self.counts = name, documentation, label, counts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self.name, self.documentation, labels=[self.label])
        for value, count in self.counts().items():
            family.add_metric([value], count)
        yield family


class JsonFormatter(logging.Formatter):
    """One JSON object per line; `extra={"fields": {...}}` adds fields."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.gmtime(record.created)
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure_logging(level: str) -> None:
    """Sends every logger's lines to stderr as JSON. Called once, by the process that serves."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
