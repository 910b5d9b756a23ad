"""Video -> labels, and segments on a timeline, for one model or several in one decode."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import DeadlineExceeded
from app.media.request import FrameChunk, FrameSpec, MediaInfo, MediaRequest, MediaSummary, Sampling
from app.media.sandbox import DecoderPool
from app.models.batching import Answer, Scheduler, Work
from app.models.manifest import Input, Output
from app.models.store import ServedModel
from app.pipelines.segments import OverlappingSegmenter, Segment, Segmenter, SegmentRules

CHUNK_SECONDS = 8.0  # of a timeline in one step: long enough to share the cost of a call, short enough to stream


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """What the client asked for."""

    top_k: int = 5
    min_score: float = 0.0
    timeline: bool = False
    start_seconds: float | None = None
    end_seconds: float | None = None
    sampling: Sampling = "exact"


@dataclass(frozen=True, slots=True)
class LabelScore:
    label: str
    score: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What one model says of the video."""

    model: ServedModel
    labels: tuple[LabelScore, ...]
    """Best first."""
    segments: tuple[Segment, ...] | None
    frames_used: int
    """Frames the labels were judged by; those of a video with fewer are counted as often as they were shown."""
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer of every model asked, and what it cost."""

    media: MediaInfo
    results: tuple[ModelResult, ...]
    decode: MediaSummary
    queue_seconds: float
    """Waited for a decoder and, summed over calls, for a place in a batch."""
    infer_seconds: float
    """Time of the model calls this video took part in."""


class ClassifyPipeline:
    """Takes each upload through decoder, scheduler and segments."""

    def __init__(self, decoders: DecoderPool, scheduler: Scheduler, rules: SegmentRules) -> None:
        self.decoders = decoders
        self.scheduler = scheduler
        self.rules = rules

    async def run(
        self, video: int, models: list[ServedModel], options: ClassifyOptions, deadline: float
    ) -> Classification:
        """Classifies the file behind the descriptor `video`; `deadline` is a time of the event loop's clock.

        Raises UnsupportedMedia, InvalidMedia, DeadlineExceeded.
        """
        judges = [_Judge(model, self.scheduler, options.timeline, self.rules) for model in models]
        consumers = [consumer for judge in judges for consumer in judge.consumers]
        request = MediaRequest(
            frames=tuple(consumer.spec for consumer in consumers),
            start_seconds=options.start_seconds,
            end_seconds=options.end_seconds,
            sampling=options.sampling,
        )
        media: MediaInfo | None = None
        summary: MediaSummary | None = None
        try:
            async with asyncio.timeout_at(deadline), aclosing(self.decoders.read(video, request, deadline)) as events:
                async for event in events:
                    match event:
                        case FrameChunk():
                            await consumers[event.spec].add(event)
                        case MediaInfo():
                            media = event
                        case MediaSummary():
                            summary = event
                for consumer in consumers:
                    await consumer.finish()
        except TimeoutError as late:
            raise DeadlineExceeded("The video could not be classified before the deadline.") from late
        finally:
            for judge in judges:
                judge.abandon()
        assert media is not None
        assert summary is not None
        end_seconds = (options.start_seconds or 0.0) + summary.duration_seconds
        return Classification(
            media=media,
            results=tuple(judge.result(options, end_seconds, summary.sampling) for judge in judges),
            decode=summary,
            queue_seconds=summary.queue_seconds + sum(consumer.calls.queue_seconds for consumer in consumers),
            infer_seconds=sum(consumer.calls.infer_seconds for consumer in consumers),
        )


class _Judge:
    """One model's view of one video: a clip for the labels, a timeline for segments, or one timeline for both."""

    def __init__(self, model: ServedModel, scheduler: Scheduler, timeline: bool, rules: SegmentRules) -> None:
        self.model = model
        calls = _Calls(model, scheduler)
        uniform = model.manifest.input.sampling == "uniform"
        self.clip = _Clip(calls) if uniform else None
        self.timeline = _Timeline(calls, rules if timeline else None) if timeline or not uniform else None
        self.consumers: list[_Clip | _Timeline] = [part for part in (self.clip, self.timeline) if part is not None]

    def abandon(self) -> None:
        """Drops a step that is still under way, where the video has failed in the meantime."""
        if self.timeline and self.timeline.pending:
            self.timeline.pending.cancel()

    def result(self, options: ClassifyOptions, end_seconds: float, sampling: Sampling) -> ModelResult:
        source = self.clip or self.timeline
        assert source is not None
        return ModelResult(
            model=self.model,
            labels=_best(self.model.manifest.output, source.logits, options),
            segments=self.timeline.close(end_seconds) if self.timeline and options.timeline else None,
            frames_used=source.num_frames,
            sampling=sampling if self.clip else "exact",
        )


class _Calls:
    """One model's calls for one video, and the time they took."""

    def __init__(self, model: ServedModel, scheduler: Scheduler) -> None:
        self.model = model
        self.scheduler = scheduler
        self.queue_seconds = 0.0
        self.infer_seconds = 0.0

    def initial_state(self, height: int, width: int) -> torch.Tensor:
        """The state (S,) before the first frame."""
        state: torch.Tensor = self.model.module.initial_state(1, height, width)
        return state[0]

    async def run(self, chunk: torch.Tensor, state: torch.Tensor | None = None) -> Answer:
        answer = await asyncio.wrap_future(self.scheduler.submit(Work(self.model, chunk, state)))
        self.queue_seconds += answer.queue_seconds
        self.infer_seconds += answer.infer_seconds
        return answer


class _Clip:
    """The frames of one `forward`: spread over the whole video."""

    def __init__(self, calls: _Calls) -> None:
        self.calls = calls
        self.spec = _frame_spec(calls.model.manifest.input, uniform=True)
        self.chunks: list[FrameChunk] = []
        self.num_frames = 0
        self.logits = np.empty(0, np.float32)

    async def add(self, chunk: FrameChunk) -> None:
        self.chunks.append(chunk)

    async def finish(self) -> None:
        frames = np.concatenate([chunk.frames for chunk in self.chunks])
        self.num_frames = len(frames)
        answer = await self.calls.run(torch.from_numpy(frames))
        (logits,) = answer.outputs
        self.logits = logits.numpy()


class _Timeline:
    """The frames of `step`: at the model's rate, chunk by chunk, with the state carried.

    A chunk is inferred while the next one is decoded.
    """

    def __init__(self, calls: _Calls, rules: SegmentRules | None) -> None:
        self.calls = calls
        manifest = calls.model.manifest
        self.spec = _frame_spec(manifest.input, uniform=False)
        self.output = manifest.output
        self.segmenter = _segmenter(manifest.output, self.spec.rate, rules) if rules else None
        self.segments: list[Segment] = []
        self.state: torch.Tensor | None = None
        self.pending: asyncio.Task[None] | None = None
        self.num_frames = 0
        self.logit_sums = np.zeros(len(manifest.output.labels))

    async def add(self, chunk: FrameChunk) -> None:
        await self.finish()
        self.pending = asyncio.create_task(self._step(chunk))

    async def finish(self) -> None:
        if self.pending is not None:
            await self.pending

    @property
    def logits(self) -> NDArray[np.float32]:
        """Mean of `now` over the whole video: what a model that samples by rate says of it."""
        return (self.logit_sums / max(self.num_frames, 1)).astype(np.float32)

    def close(self, end_seconds: float) -> tuple[Segment, ...]:
        assert self.segmenter is not None
        self.segments.extend(self.segmenter.finish(end_seconds))
        return tuple(self.segments)

    async def _step(self, chunk: FrameChunk) -> None:
        if self.state is None:
            self.state = self.calls.initial_state(*chunk.frames.shape[1:3])
        answer = await self.calls.run(torch.from_numpy(chunk.frames), self.state)
        self.state = answer.state
        now = answer.outputs[0].numpy()  # (T, K)
        self.num_frames += len(now)
        self.logit_sums += now.sum(axis=0)
        if self.segmenter is not None:
            for seconds, scores in zip(chunk.times, to_scores(now, self.output.scores), strict=True):
                self.segments.extend(self.segmenter.push(float(seconds), scores))


def to_scores(logits: NDArray[np.float32], kind: str) -> NDArray[np.float64]:
    """Scores in [0, 1] from logits (..., K): softmax over K, or the sigmoid of each."""
    wide = torch.from_numpy(logits).double()
    scores = torch.sigmoid(wide) if kind == "sigmoid" else torch.softmax(wide, dim=-1)
    return scores.numpy()


def _best(output: Output, logits: NDArray[np.float32], options: ClassifyOptions) -> tuple[LabelScore, ...]:
    scores = to_scores(logits, output.scores)
    if not np.isfinite(scores).all():
        raise ArithmeticError("the model answered NaN or infinity")
    order = np.argsort(-scores, kind="stable")[: options.top_k]
    return tuple(LabelScore(output.labels[i], float(scores[i])) for i in order if scores[i] >= options.min_score)


def _frame_spec(model_input: Input, *, uniform: bool) -> FrameSpec:
    assert model_input.fit is not None
    rate = model_input.rate or 0.0
    return FrameSpec(
        width=model_input.width if isinstance(model_input.width, int) else 0,
        height=model_input.height if isinstance(model_input.height, int) else 0,
        fit=model_input.fit,
        longest_side=model_input.longest_side or 0,
        clip_length=(model_input.clip_length or 0) if uniform else 0,
        rate=0.0 if uniform else rate,
        chunk_length=(model_input.clip_length or 0) if uniform else max(1, round(CHUNK_SECONDS * rate)),
    )


def _segmenter(output: Output, rate: float, rules: SegmentRules) -> Segmenter | OverlappingSegmenter:
    kind = Segmenter if output.scores == "softmax" else OverlappingSegmenter
    return kind(output.labels, rate, rules)
