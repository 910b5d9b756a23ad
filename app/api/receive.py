"""What every route with an upload does around its pipeline: takes the file in, sets the deadline, reports the cost."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from fastapi import Request

from app.api.events import Emit, Waiting
from app.api.observe import RequestRecord
from app.api.schemas import Timing, UploadQuery
from app.api.service import Service, service_of
from app.api.upload import Spool, spooling
from app.media.kinds import index_comes_last
from app.media.request import Sampling
from app.models.store import ServedModel
from app.pipelines.reading import Arriving, Cost, Upload

EARLY_SECONDS = 0.1
"""An upload that takes longer is decoded while it comes, where that is possible; for others it is not worth it."""


@dataclass
class Received:
    """One request with an upload, while its file is there."""

    service: Service
    spool: Spool
    record: RequestRecord
    arriving: Arriving | None
    started: float = field(default_factory=time.perf_counter)

    @property
    def file_name(self) -> str:
        """As the form gives it, else `upload`. For answers only: it opens nothing."""
        return self.spool.name

    def upload(
        self,
        query: UploadQuery,
        sampling: Sampling = "exact",
        *,
        in_events: bool = False,
        is_prompt: bool = False,
        wait_seconds: float | None = None,
    ) -> Upload:
        """What the pipeline is to read, and until when.

        `in_events`: there is as much time as a stream may take. `is_prompt`: what is known first is wanted first.
        `wait_seconds`: no more time than that, and then what is known is the answer.
        """
        seconds = self.service.deadline_seconds + (self.service.stream.total_seconds if in_events else 0.0)
        if wait_seconds is not None:
            seconds = min(seconds, wait_seconds)
        return Upload(
            self.spool.descriptor,
            math.inf if self.arriving else asyncio.get_running_loop().time() + seconds,
            query.start_seconds,
            query.end_seconds,
            sampling,
            is_prompt=in_events or is_prompt or wait_seconds is not None,
            takes_partial=wait_seconds is not None,
            arriving=self.arriving and replace(self.arriving, seconds=seconds),
        )

    def report(self, cost: Cost) -> Timing:
        """The timing for the answer; the log line and the metrics get it too."""
        timing = Timing(
            queue_seconds=cost.queue_seconds,
            upload_seconds=self.spool.seconds,
            decode_seconds=cost.decode.decode_seconds,
            infer_seconds=cost.infer_seconds,
            total_seconds=time.perf_counter() - self.started,
            decoded_while_uploading=cost.decode.while_uploading,
        )
        record_cost(self.service, self.record, cost, self.spool.seconds)
        return timing


def record_cost(service: Service, record: RequestRecord, cost: Cost, upload_seconds: float) -> None:
    """Adds one upload to the log line and the metrics."""
    record.media_seconds = cost.decode.duration_seconds
    record.stages = {
        "upload": upload_seconds,
        "queue": cost.queue_seconds,
        "decode": cost.decode.decode_seconds,
        "infer": cost.infer_seconds,
    }
    frames = service.telemetry.frames
    frames.labels("decoded").inc(cost.decode.frames_decoded)
    frames.labels("skipped").inc(cost.decode.frames_skipped)


@asynccontextmanager
async def receive(
    request: Request, models: Sequence[ServedModel], emit: Emit | None = None, *, on_arrival: bool = False
) -> AsyncIterator[Received]:
    """The request once its body has arrived, for `models` to work on; the file is gone when the context ends.

    With `on_arrival`, a slow upload is given out earlier, to be read while it comes. Where that cannot be, `emit` gets
    an event that says so. Raises MalformedRequest where there is no file.
    """
    service = service_of(request)
    record: RequestRecord = request.state.record
    record.models = tuple(f"{model.manifest.name}@{model.manifest.version}" for model in models)
    async with spooling(request) as spool:
        received = Received(service, spool, record, None)
        if on_arrival:
            received.arriving = await _arriving(service, spool, emit)
        if received.arriving is None:
            await spool.finished
        yield received
        await spool.finished  # a client that is answered while it still sends may never see the answer


async def _arriving(service: Service, spool: Spool, emit: Emit | None) -> Arriving | None:
    """How to read the upload while it comes; None where it is complete, cannot be read so, or no worker is free."""
    if await spool.finishes_within(EARLY_SECONDS):
        return None
    head = await spool.watch()
    if index_comes_last(head):
        if emit is not None:
            detail = "The index of this MP4 comes last: it can be read only once it is complete."
            emit(lambda: Waiting(detail=detail))
        return None
    if spool.growth is None or not service.arriving.idle_workers:
        return None
    return Arriving(service.arriving, spool.growth, spool.finished, service.deadline_seconds)
