"""What the steps of a stream say, by the model's task."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from app.models.manifest import ClassifyOutput
from app.models.tokens import StreamPoint
from app.pipelines.calls import ModelCalls
from app.pipelines.judges import segmenter_for
from app.pipelines.late_answers import LateAnswers
from app.pipelines.scores import ScoresOfMoments, to_scores
from app.pipelines.segments import OpenSegment, RuleOverrides, Segment
from app.pipelines.surprise import Comparison


@dataclass(frozen=True, slots=True)
class Reading:
    """What one step says. What the model's task does not have is None; the first steps of a late model say nothing."""

    about_seconds: float | None = None
    """The moment that `scores` are about, before the step's own, of a model that answers late; else None."""
    scores: NDArray[np.float64] | None = None
    """(K,) in [0, 1], of this moment alone."""
    smoothed: NDArray[np.float64] | None = None
    """(K,) their mean over the last `smoothing_seconds`."""
    so_far: NDArray[np.float64] | None = None
    """(K,) in [0, 1], of everything since the stream began."""
    opened: tuple[OpenSegment, ...] = ()
    closed: tuple[Segment, ...] = ()
    surprise: float | None = None
    """How far the frame is from its forecast, in [0, 1]; None for the first frame."""
    features: NDArray[np.float32] | None = None
    """(D,)"""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What is left to say when a stream is over."""

    so_far: NDArray[np.float64] | None
    """(K,) in [0, 1]; None before the first step."""
    closed: tuple[Segment, ...]
    """The segments that were still open."""
    clip: NDArray[np.float32] | None
    """(D,) the vector of all that was heard."""


class Reader(Protocol):
    """Makes readings of a model's outputs. What it remembers from one step to the next is part of a StreamPoint."""

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        """One reading for each of the steps at `times` (T,)."""

    def save(self) -> NDArray[np.float64]:
        """What it remembers."""

    async def finish(self, end_seconds: float, state: torch.Tensor) -> StreamEnd:
        """What is left to say at the end."""


def reader_of(calls: ModelCalls, rate: float, overrides: RuleOverrides, point: StreamPoint | None) -> Reader:
    """The reader for a model's task, of `rate` steps a second; goes on from `point`."""
    match calls.model.manifest.task:
        case "classify":
            return _Labels(calls, rate, overrides, point)
        case "predict":
            return _Surprise(calls, point)
        case "features":
            return _Features(calls)
        case "caption":
            raise AssertionError("a describer of video has no steps")


class _Labels:
    """Scores and segments. Remembers the judgement of everything, the moments to be answered, the segmenter.

    A model that answers late also counts its first answers, which are about no moment, in its own judgement of
    everything. For such a model that judgement is made from the moments, as on the timeline of a file.
    """

    def __init__(self, calls: ModelCalls, rate: float, overrides: RuleOverrides, point: StreamPoint | None) -> None:
        output = calls.model.manifest.output
        assert isinstance(output, ClassifyOutput)
        self.kind = output.scores
        self.segmenter = segmenter_for(output, rate, overrides)
        self.so_far: NDArray[np.float64] | None = None
        delay = output.delay_steps
        kept, waiting, num_moments = np.zeros(len(output.labels)), None, 0
        if point is not None and len(point.memory):
            ends = (len(kept), len(kept) + min(point.sequence, delay))
            kept, waiting, saved = np.split(point.memory, ends)
            num_moments = max(0, point.sequence - delay)
            self.so_far = kept
            self.segmenter.restore(float(value) for value in saved)
        self.late = LateAnswers(delay, waiting)
        self.moments = ScoresOfMoments(self.kind, kept, num_moments) if delay else None
        if self.moments is not None:
            self.so_far = self.moments.scores if num_moments else None

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        now, of_model = (output.numpy() for output in outputs)  # (T, K) each
        moments, about_them = self.late.pair(times, now)
        so_far = to_scores(of_model, self.kind) if self.moments is None else self.moments.push(about_them)
        if len(so_far):
            self.so_far = so_far[-1]
        scores = to_scores(about_them, self.kind)
        return [Reading() for _ in range(len(times) - len(moments))] + [
            self._read(float(at), *judged) for at, *judged in zip(moments, scores, so_far, strict=True)
        ]

    def save(self) -> NDArray[np.float64]:
        kept = self.so_far if self.moments is None else self.moments.mean
        return np.empty(0) if kept is None else np.concatenate([kept, self.late.waiting, self.segmenter.save()])

    async def finish(self, end_seconds: float, state: torch.Tensor) -> StreamEnd:
        """The last moments of a late model stay unanswered: no one knows what would have come after them."""
        return StreamEnd(self.so_far, tuple(self.segmenter.finish(end_seconds)), None)

    def _read(self, seconds: float, scores: NDArray[np.float64], so_far: NDArray[np.float64]) -> Reading:
        smoothed = self.segmenter.smoothed(scores)
        before = self.segmenter.open_segments
        closed = tuple(self.segmenter.push(seconds, scores))
        opened = tuple(segment for segment in self.segmenter.open_segments if segment not in before)
        about_seconds = seconds if self.late.delay_steps else None
        return Reading(about_seconds, scores, smoothed, so_far, opened, closed)


class _Surprise:
    """How far each frame is from its forecast, which is made again from the state where a stream is resumed."""

    def __init__(self, calls: ModelCalls, point: StreamPoint | None) -> None:
        self.calls = calls
        self.point = point
        self.comparison = Comparison()

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        (next_frames,) = outputs  # (T, H, W, 3) in [0, 1]
        if self.comparison.forecast is None and self.point is not None:
            self.comparison.forecast = await self._forecast_again(self.point, chunk)
        errors = await self.comparison.push(next_frames, chunk.numpy())
        first = [Reading()] * (len(times) - len(errors))
        return [*first, *(Reading(surprise=float(error)) for error in errors)]

    def save(self) -> NDArray[np.float64]:
        return np.empty(0)

    async def finish(self, end_seconds: float, state: torch.Tensor) -> StreamEnd:
        return StreamEnd(None, (), None)

    async def _forecast_again(self, point: StreamPoint, chunk: torch.Tensor) -> torch.Tensor:
        answer = await self.calls.run("decode", chunk[:0], point.state, horizon=1)
        forecast: torch.Tensor = answer.outputs[0][0]
        return forecast


class _Features:
    """The vector of each step, and in the end that of everything."""

    def __init__(self, calls: ModelCalls) -> None:
        self.calls = calls

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        return [Reading(features=vector) for vector in outputs[0].numpy()]  # (T, D)

    def save(self) -> NDArray[np.float64]:
        return np.empty(0)

    async def finish(self, end_seconds: float, state: torch.Tensor) -> StreamEnd:
        answer = await self.calls.run("clip", torch.empty(0), state)
        return StreamEnd(None, (), answer.outputs[0].numpy())
