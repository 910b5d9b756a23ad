"""Video -> the frames that come next, and how surprising those were that came."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import DeadlineExceeded
from app.media.request import FrameChunk, FrameSpec, MediaInfo
from app.media.sandbox import DecoderPool
from app.models.batching import Scheduler
from app.models.store import ServedModel
from app.models.work import Answer
from app.pipelines.calls import ModelCalls
from app.pipelines.reading import Consumer, Cost, Upload, frame_spec, read_for
from app.pipelines.surprise import Surprise, SurpriseCurve


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What the client asked for."""

    horizon: int
    """Frames; no more than the model's manifest allows."""
    at_seconds: float | None = None
    """The last observed frame is the one on display then; None: the last of the video."""
    surprise: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was seen, what is predicted to follow, and what it cost."""

    media: MediaInfo
    model: ServedModel
    frame_rate: float
    """Of the observed and the predicted frames: the model's own, not the video's."""
    observed: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    observed_times: NDArray[np.float64]
    """(T,) seconds since the first displayed frame; where there is nothing so early, 0 and the first frame again."""
    predicted: NDArray[np.uint8]
    """(horizon, H, W, 3) RGB."""
    predicted_times: NDArray[np.float64]
    """(horizon,)"""
    surprise: Surprise | None
    is_partial: bool
    """Time was up: it stands on the frames that had been compared by then, and goes on from the last of them."""
    cost: Cost


class PredictPipeline:
    """Takes each upload through decoder and scheduler."""

    def __init__(self, decoders: DecoderPool, scheduler: Scheduler) -> None:
        self.decoders = decoders
        self.scheduler = scheduler

    async def run(
        self,
        upload: Upload,
        model: ServedModel,
        options: PredictOptions,
        on_progress: Callable[[SurpriseCurve], None] | None = None,
    ) -> Forecast:
        """What follows in the video, and the surprise of the upload's part of it, both from one decode.

        `on_progress` gets the curve as far as it has come, after each chunk, where there is one.
        Where time is up for an upload that takes a partial answer, it is of the frames that were compared by then.
        Raises UnsupportedMedia, InvalidMedia, DeadlineExceeded.
        """
        calls = ModelCalls(model, self.scheduler)
        future = _Future(calls, options)
        frames: list[tuple[FrameSpec, Consumer[FrameChunk]]] = [(future.spec, future)]
        curve = SurpriseCurve(calls) if options.surprise else None
        if curve is not None:
            frames.append((curve.spec, curve))
        on_chunk = None if curve is None or on_progress is None else partial(on_progress, curve)
        read = await read_for(self.decoders, upload, frames, on_chunk=on_chunk)
        if read.ended == "deadline":
            await future.go_on_from(curve)
        observed_times = future.times
        end_seconds = (upload.start_seconds or 0.0) + read.summary.duration_seconds
        return Forecast(
            media=read.media,
            model=model,
            frame_rate=future.spec.rate,
            observed=future.observed,
            observed_times=observed_times,
            predicted=future.predicted,
            predicted_times=observed_times[-1] + np.arange(1, options.horizon + 1) / future.spec.rate,
            surprise=curve.result(end_seconds) if curve is not None else None,
            is_partial=read.ended == "deadline",
            cost=Cost(read.summary, read.summary.queue_seconds + calls.queue_seconds, calls.infer_seconds),
        )


class _Future:
    """Collects the observed frames and, once all are there, has the model go on from them."""

    def __init__(self, calls: ModelCalls, options: PredictOptions) -> None:
        self.calls = calls
        self.horizon = options.horizon
        wanted = calls.model.manifest.input
        assert wanted.clip_length is not None
        assert wanted.rate is not None
        self.spec = frame_spec(
            wanted, clip_length=wanted.clip_length, rate=wanted.rate, last_seconds=options.at_seconds
        )
        self.clip_length = wanted.clip_length
        self.chunks: list[FrameChunk] = []
        self.predicted = np.empty((0, 0, 0, 3), np.uint8)

    @property
    def observed(self) -> NDArray[np.uint8]:
        """(T, H, W, 3)"""
        return np.concatenate([chunk.frames for chunk in self.chunks])

    @property
    def times(self) -> NDArray[np.float64]:
        """(T,) of what was observed."""
        return np.concatenate([chunk.times for chunk in self.chunks])

    async def add(self, chunk: FrameChunk) -> None:
        self.chunks.append(chunk)

    async def finish(self) -> None:
        answer = await self.calls.run("forward", torch.from_numpy(self.observed), horizon=self.horizon)
        self._take(answer)

    async def go_on_from(self, curve: SurpriseCurve | None) -> None:
        """From the last frame that was compared, instead of the one asked for: the answer is due, before what waits.

        Raises DeadlineExceeded where there is none.
        """
        if curve is None or curve.compared is None:
            raise DeadlineExceeded("No frame could be compared with its forecast before the deadline.")
        chunk, state = curve.compared
        last = slice(-self.clip_length, None)
        self.chunks = [replace(chunk, frames=chunk.frames[last], times=chunk.times[last])]
        self.calls.live = True
        answer = await self.calls.run("decode", torch.from_numpy(chunk.frames[:0]), state, horizon=self.horizon)
        self._take(answer)

    def abandon(self) -> None: ...

    def _take(self, answer: Answer) -> None:
        (forecast,) = answer.outputs  # (horizon, H, W, 3) in [0, 1]
        self.predicted = (forecast.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
