"""What every route with an upload does around its pipeline: takes the file in, sets the deadline, reports the cost."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import Request

from app.api.observe import RequestRecord
from app.api.schemas import Timing
from app.api.service import Service, service_of
from app.api.upload import spooled
from app.models.store import ServedModel
from app.pipelines.reading import Cost


@dataclass
class Received:
    """One request with an upload, while its file is there."""

    descriptor: int
    """Of the upload, on disk."""
    file_name: str
    """As the form gives it, else `upload`. For answers only: it opens nothing."""
    deadline: float
    """By the event loop's clock."""
    upload_seconds: float
    _service: Service
    _record: RequestRecord
    _started: float = field(repr=False)

    def report(self, cost: Cost) -> Timing:
        """The timing for the answer; the log line and the metrics get it too."""
        timing = Timing(
            queue_seconds=cost.queue_seconds,
            upload_seconds=self.upload_seconds,
            decode_seconds=cost.decode.decode_seconds,
            infer_seconds=cost.infer_seconds,
            total_seconds=time.perf_counter() - self._started,
        )
        self._record.media_seconds = cost.decode.duration_seconds
        self._record.stages = {
            "upload": timing.upload_seconds,
            "queue": timing.queue_seconds,
            "decode": timing.decode_seconds,
            "infer": timing.infer_seconds,
        }
        frames = self._service.telemetry.frames
        frames.labels("decoded").inc(cost.decode.frames_decoded)
        frames.labels("skipped").inc(cost.decode.frames_skipped)
        return timing


@asynccontextmanager
async def receive(request: Request, models: Sequence[ServedModel]) -> AsyncIterator[Received]:
    """The request once its body has arrived, for `models` to work on; the file is gone when the context ends.

    Raises MalformedRequest where there is no file.
    """
    service = service_of(request)
    record: RequestRecord = request.state.record
    record.models = tuple(f"{model.manifest.name}@{model.manifest.version}" for model in models)
    started = time.perf_counter()
    async with spooled(request) as (file, name):
        yield Received(
            descriptor=file.fileno(),
            file_name=name,
            deadline=asyncio.get_running_loop().time() + service.deadline_seconds,
            upload_seconds=time.perf_counter() - started,
            _service=service,
            _record=record,
            _started=started,
        )
