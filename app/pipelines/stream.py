"""A stream: one model stepped over frames or sound as they come, from any point on."""

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import InvalidMedia, MalformedRequest
from app.media.request import FrameSpec, WaveformSpec
from app.models.manifest import ClassifyOutput
from app.models.store import ServedModel
from app.models.tokens import StreamPoint
from app.pipelines.calls import ModelCalls
from app.pipelines.judges import segmenter_for, to_scores
from app.pipelines.late_answers import LateAnswers
from app.pipelines.reading import frame_spec, step_spec
from app.pipelines.segments import OpenSegment, RuleOverrides, Segment
from app.pipelines.surprise import forecast_errors

NOTHING_HEARD = np.empty(0, np.float32)


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
class StreamStep:
    """One step of a stream."""

    sequence: int
    """1 for the first step of the stream, whatever it was resumed from."""
    seconds: float
    """When the step begins, in the stream's time."""
    reading: Reading


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """What is left to say when a stream is over."""

    so_far: NDArray[np.float64] | None
    """(K,) in [0, 1]; None before the first step."""
    closed: tuple[Segment, ...]
    """The segments that were still open."""
    clip: NDArray[np.float32] | None
    """(D,) the vector of all that was heard."""


class _Reader(Protocol):
    """Makes readings of a model's outputs. What it remembers from one step to the next is part of a StreamPoint."""

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        """One reading for each of the steps at `times` (T,)."""

    def save(self) -> NDArray[np.float64]:
        """What it remembers."""

    async def finish(self, end_seconds: float, state: torch.Tensor) -> StreamEnd:
        """What is left to say at the end."""


class Stream:
    """One model's way through frames or sound. Any split into chunks and any resumption gives the same steps."""

    def __init__(self, calls: ModelCalls, overrides: RuleOverrides, point: StreamPoint | None = None) -> None:
        """Goes on from `point`, which must be of this model. Raises MalformedRequest for a model that cannot step."""
        manifest = calls.model.manifest
        if not manifest.causal:
            raise MalformedRequest(f"Model {manifest.name} takes in a file as a whole; it cannot judge step by step.")
        self.calls = calls
        self.sequence = point.sequence if point else 0
        """Steps taken."""
        self.seconds = point.seconds if point else 0.0
        """When the next step begins, if it follows without a gap."""
        self.height, self.width = (point.height, point.width) if point else (0, 0)
        self._state = point.state if point else None
        self._tail = point.tail if point else NOTHING_HEARD
        self._reader = _reader_of(self, overrides, point)

    @property
    def model(self) -> ServedModel:
        return self.calls.model

    @property
    def rate(self) -> float:
        """Steps a second that the model was trained for; of sound, at least."""
        wanted = self.model.manifest.input
        if wanted.sample_rate is not None:
            assert wanted.step_samples is not None
            return wanted.sample_rate / wanted.step_samples
        assert wanted.rate is not None
        return wanted.rate

    @property
    def earliest_seconds(self) -> float:
        """No picture that follows may be of before then: when the last step began, but for rounding."""
        return self.seconds - 1 / self.rate - 1e-9 if self.sequence else -math.inf

    def frame_spec(self, chunk_length: int) -> FrameSpec:
        """Frames at the model's rate and size: once there was a frame, at that one's."""
        spec = frame_spec(self.model.manifest.input, rate=self.rate, chunk_length=chunk_length)
        if self.width and not spec.width:
            spec = replace(spec, width=self.width, height=self.height, fit="stretch", longest_side=0)
        return spec

    def sound_spec(self, chunk_seconds: float) -> WaveformSpec:
        return step_spec(self.model.manifest.input, chunk_seconds)

    def point(self) -> StreamPoint | None:
        """Where the stream stands; None before its first frame or sound."""
        if self._state is None:
            return None
        return StreamPoint(
            self.sequence, self.seconds, self._state, self._reader.save(), self._tail, self.height, self.width
        )

    async def step_frames(self, frames: NDArray[np.uint8], times: NDArray[np.float64]) -> list[StreamStep]:
        """Steps over `frames` (T, H, W, 3) at `times` (T,), in seconds, never falling."""
        height, width = frames.shape[1:3]
        if self._state is None:
            self._state = self.calls.initial_state(height, width)
            self.height, self.width = height, width
        elif (height, width) != (self.height, self.width):
            raise InvalidMedia(f"A frame is {width} x {height}; the stream began with {self.width} x {self.height}.")
        steps = await self._step(torch.from_numpy(frames), times)
        self.seconds = float(times[-1]) + 1 / self.rate
        return steps

    async def step_sound(self, waveform: NDArray[np.float32]) -> list[StreamStep]:
        """Steps over `waveform` (N,), which follows what came before; what makes no whole step is kept for the next."""
        wanted = self.model.manifest.input
        assert wanted.sample_rate is not None
        assert wanted.step_samples is not None
        if self._state is None:
            self._state = self.calls.initial_state()
        heard = np.concatenate([self._tail, waveform])
        length = len(heard) // wanted.step_samples * wanted.step_samples
        self._tail = heard[length:].copy()
        if not length:
            return []
        steps = await self._step(torch.from_numpy(heard[:length]), None)
        self.seconds += length / wanted.sample_rate
        return steps

    async def finish(self) -> StreamEnd | None:
        """What is left to say; None where nothing has come. A tail that makes no whole step stays unheard."""
        return None if self._state is None else await self._reader.finish(self.seconds, self._state)

    async def _step(self, chunk: torch.Tensor, times: NDArray[np.float64] | None) -> list[StreamStep]:
        answer = await self.calls.run("step", chunk, self._state)
        num_steps = len(answer.outputs[0])
        if times is None:
            assert self.model.manifest.input.sample_rate is not None
            step_seconds = len(chunk) / self.model.manifest.input.sample_rate / num_steps
            times = self.seconds + np.arange(num_steps, dtype=np.float64) * step_seconds
        readings = await self._reader.read(chunk, times, answer.outputs)
        self._state = answer.state
        first = self.sequence + 1
        self.sequence += num_steps
        return [
            StreamStep(first + index, float(seconds), reading)
            for index, (seconds, reading) in enumerate(zip(times, readings, strict=True))
        ]


def _reader_of(stream: Stream, overrides: RuleOverrides, point: StreamPoint | None) -> _Reader:
    match stream.model.manifest.task:
        case "classify":
            return _Labels(stream, overrides, point)
        case "predict":
            return _Surprise(stream, point)
        case "features":
            return _Features(stream)
        case "caption":
            raise AssertionError("a describer of video has no steps, and Stream has said so")


class _Labels:
    """Scores and segments. Remembers the last judgement of everything, the moments to be answered, the segmenter."""

    def __init__(self, stream: Stream, overrides: RuleOverrides, point: StreamPoint | None) -> None:
        output = stream.model.manifest.output
        assert isinstance(output, ClassifyOutput)
        self.kind = output.scores
        self.segmenter = segmenter_for(output, stream.rate, overrides)
        self.so_far: NDArray[np.float64] | None = None
        waiting: NDArray[np.float64] | None = None
        if point is not None and len(point.memory):
            num_labels, num_waiting = len(output.labels), min(point.sequence, output.delay_steps)
            self.so_far, waiting, saved = np.split(point.memory, (num_labels, num_labels + num_waiting))
            self.segmenter.restore(float(value) for value in saved)
        self.late = LateAnswers(output.delay_steps, waiting)

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        now, so_far = (to_scores(output.numpy(), self.kind) for output in outputs)  # (T, K) each
        self.so_far = so_far[-1]
        moments, about_them = self.late.pair(times, now)
        num_silent = len(times) - len(moments)
        return [Reading() for _ in range(num_silent)] + [
            self._read(float(at), scores, judged)
            for at, scores, judged in zip(moments, about_them, so_far[num_silent:], strict=True)
        ]

    def save(self) -> NDArray[np.float64]:
        if self.so_far is None:
            return np.empty(0)
        return np.concatenate([self.so_far, self.late.waiting, self.segmenter.save()])

    async def finish(self, end_seconds: float, state: torch.Tensor) -> StreamEnd:
        """The moments of a late model that are yet to be answered stay so: no one knows what would have come."""
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

    def __init__(self, stream: Stream, point: StreamPoint | None) -> None:
        self.calls = stream.calls
        self.point = point
        self.forecast: torch.Tensor | None = None  # (H, W, 3) of the frame to come

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        (next_frames,) = outputs  # (T, H, W, 3) in [0, 1]
        if self.forecast is None and self.point is not None:
            self.forecast = await self._forecast_again(self.point, chunk)
        is_first = self.forecast is None
        known = next_frames[:-1] if self.forecast is None else torch.cat([self.forecast[None], next_frames[:-1]])
        errors = await asyncio.to_thread(forecast_errors, known.numpy(), chunk[int(is_first) :].numpy())
        if not np.isfinite(errors).all():
            raise ArithmeticError("the model answered NaN or infinity")
        self.forecast = next_frames[-1].clone()
        return [*([Reading()] if is_first else []), *(Reading(surprise=float(error)) for error in errors)]

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

    def __init__(self, stream: Stream) -> None:
        self.calls = stream.calls

    async def read(
        self, chunk: torch.Tensor, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]
    ) -> list[Reading]:
        vectors = outputs[0].numpy()  # (T, D)
        if not np.isfinite(vectors).all():
            raise ArithmeticError("the model answered NaN or infinity")
        return [Reading(features=vector) for vector in vectors]

    def save(self) -> NDArray[np.float64]:
        return np.empty(0)

    async def finish(self, end_seconds: float, state: torch.Tensor) -> StreamEnd:
        answer = await self.calls.run("clip", torch.empty(0), state)
        return StreamEnd(None, (), answer.outputs[0].numpy())
