"""What a classifier makes of one upload as it is decoded: of a clip, of a timeline, of sound in steps or in parts."""

from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from app.media.request import FrameChunk, WaveformChunk, WaveformSpec
from app.models.manifest import ClassifyOutput
from app.pipelines.calls import ModelCalls, Stepper, whole_steps
from app.pipelines.late_answers import LateAnswers
from app.pipelines.overlapping import OverlappingSegmenter
from app.pipelines.reading import frame_spec, step_spec
from app.pipelines.scores import ScoresOfMoments, to_scores
from app.pipelines.segments import (
    APART,
    COMPETING,
    EVERY_STEP,
    RuleOverrides,
    Segment,
    Segmenter,
)
from app.pipelines.settling import Settling

CHUNK_SECONDS = 8.0  # of a timeline in one step: long enough to share the cost of a call, short enough to stream
SHORTEST_PART_SECONDS = 0.5  # what is left over after the last whole part counts from this length on


class Judge(Protocol):
    """What every judge answers in the end."""

    @property
    def num_units(self) -> int:
        """Frames, steps or parts that the logits stand on."""

    @property
    def scores(self) -> NDArray[np.float64]:
        """(K,) in [0, 1], for all that was seen or heard."""


def segmenter_for(output: ClassifyOutput, rate: float, overrides: RuleOverrides) -> Segmenter | OverlappingSegmenter:
    """What makes segments of a model's scores, of which there are `rate` a second."""
    if output.scores == "softmax":
        return Segmenter(output.labels, rate, overrides.over(COMPETING))
    return OverlappingSegmenter(output.labels, rate, overrides.over(APART), output.shortest_seconds)


class SegmentTrack:
    """Logits of one moment after the other -> segments."""

    def __init__(self, output: ClassifyOutput, rate: float, overrides: RuleOverrides) -> None:
        """`rate`: moments a second."""
        self.output = output
        self.segmenter = segmenter_for(output, rate, overrides)
        self.segments: list[Segment] = []

    def push(self, times: NDArray[np.float64], logits: NDArray[np.float32]) -> None:
        """The moments that begin at `times` (T,), in seconds, with `logits` (T, K)."""
        for seconds, scores in zip(times, to_scores(logits, self.output.scores), strict=True):
            self.segments.extend(self.segmenter.push(float(seconds), scores))

    def close(self, end_seconds: float) -> tuple[Segment, ...]:
        """All segments in order of their beginnings; where they overlap, they end in another order."""
        self.segments.extend(self.segmenter.finish(end_seconds))
        return tuple(sorted(self.segments, key=lambda segment: (segment.start_seconds, segment.end_seconds)))


class ClipJudge:
    """The frames of one `forward`: spread over the whole video."""

    def __init__(self, calls: ModelCalls, output: ClassifyOutput) -> None:
        self.calls = calls
        self.output = output
        wanted = calls.model.manifest.input
        assert wanted.clip_length is not None
        self.spec = frame_spec(wanted, clip_length=wanted.clip_length)
        self.chunks: list[FrameChunk] = []
        self.num_units = 0
        self._logits = np.empty(0, np.float32)

    async def add(self, chunk: FrameChunk) -> None:
        self.chunks.append(chunk)

    async def finish(self) -> None:
        frames = np.concatenate([chunk.frames for chunk in self.chunks])
        self.num_units = len(frames)
        answer = await self.calls.run("forward", torch.from_numpy(frames))
        self._logits = answer.outputs[0].numpy()

    def abandon(self) -> None: ...

    @property
    def scores(self) -> NDArray[np.float64]:
        return to_scores(self._logits, self.output.scores)


class TimelineJudge:
    """The frames of `step`: at the model's rate, chunk by chunk."""

    def __init__(
        self,
        calls: ModelCalls,
        output: ClassifyOutput,
        overrides: RuleOverrides | None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        """With `overrides` it also makes segments."""
        self.stepper = Stepper(calls)
        wanted = calls.model.manifest.input
        assert wanted.rate is not None
        self.rate = wanted.rate
        self.spec = frame_spec(wanted, rate=self.rate, chunk_length=max(1, round(chunk_seconds * self.rate)))
        self.output = output
        self.settling = Settling(self.rate)
        self.judges_moments = wanted.sampling == "rate"
        self.track = SegmentTrack(output, self.rate, overrides) if overrides else None
        self.late = LateAnswers(output.delay_steps)
        self.last_seconds = 0.0
        self._last_frame: NDArray[np.uint8] | None = None  # (1, H, W, 3)
        self.moments = ScoresOfMoments(output.scores, np.zeros(len(output.labels)))
        self._so_far = np.zeros(len(output.labels), np.float32)

    async def add(self, chunk: FrameChunk) -> None:
        self._last_frame = chunk.frames[-1:]
        await self.stepper.push(torch.from_numpy(chunk.frames), partial(self._take, chunk.times))

    async def finish(self) -> None:
        """The last moments are answered after the end: the last frame stays for as long."""
        if self.late.delay_steps and self._last_frame is not None:
            after = np.repeat(self._last_frame, self.late.delay_steps, axis=0)
            await self.stepper.push(torch.from_numpy(after), self._take_rest)
        await self.stepper.finish()

    def abandon(self) -> None:
        self.stepper.abandon()

    @property
    def scores(self) -> NDArray[np.float64]:
        """Of everything so far: of all its moments, where the model samples by rate and so judges moments."""
        return self.moments.scores if self.judges_moments else to_scores(self._so_far, self.output.scores)

    @property
    def num_units(self) -> int:
        """Moments that were judged."""
        return self.moments.num_moments

    @property
    def end_seconds(self) -> float:
        """Of what was judged so far."""
        return self.last_seconds + 1 / self.rate if self.num_units else 0.0

    def close(self, end_seconds: float) -> tuple[Segment, ...] | None:
        # The sound of the same request may go on for longer than the picture.
        return self.track.close(min(end_seconds, self.last_seconds + 1 / self.rate)) if self.track else None

    async def _take(self, times: NDArray[np.float64], outputs: tuple[torch.Tensor, ...]) -> None:
        now, so_far = (output.numpy() for output in outputs)  # (T, K) each
        self.last_seconds = float(times[-1])
        self._so_far = so_far[-1]
        if not self.judges_moments:
            self._watch(to_scores(so_far, self.output.scores))
        self._count(*self.late.pair(times, now))

    async def _take_rest(self, outputs: tuple[torch.Tensor, ...]) -> None:
        self._count(*self.late.rest(outputs[0].numpy()))

    def _count(self, moments: NDArray[np.float64], logits: NDArray[np.float32]) -> None:
        """moments (T,), logits (T, K) about them."""
        scores = self.moments.push(logits)
        if self.judges_moments:
            self._watch(scores)
        if self.track is not None:
            self.track.push(moments, logits)

    def _watch(self, scores: NDArray[np.float64]) -> None:
        self.settling.push(scores, compete=self.output.scores == "softmax")


class SoundStepsJudge:
    """Sound through `step`, chunk by chunk. The labels are the last `so_far`, which judges everything heard."""

    def __init__(
        self,
        calls: ModelCalls,
        output: ClassifyOutput,
        overrides: RuleOverrides | None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        self.stepper = Stepper(calls)
        wanted = calls.model.manifest.input
        self.spec = step_spec(wanted, chunk_seconds)
        self.output = output
        assert wanted.step_samples is not None
        self.step_samples = wanted.step_samples
        rate = self.spec.sample_rate / self.step_samples
        self.settling = Settling(rate)
        self.track = SegmentTrack(output, rate, overrides) if overrides else None
        self.num_units = 0
        self._logits = np.empty(0, np.float32)
        self.end_seconds = 0.0  # of what was judged so far

    async def add(self, chunk: WaveformChunk) -> None:
        waveform = whole_steps(chunk.waveform, self.step_samples)
        await self.stepper.push(torch.from_numpy(waveform), partial(self._take, chunk, len(waveform)))

    async def finish(self) -> None:
        await self.stepper.finish()

    def abandon(self) -> None:
        self.stepper.abandon()

    @property
    def scores(self) -> NDArray[np.float64]:
        return to_scores(self._logits, self.output.scores)

    def close(self) -> tuple[Segment, ...] | None:
        return self.track.close(self.end_seconds) if self.track else None

    async def _take(self, chunk: WaveformChunk, num_samples: int, outputs: tuple[torch.Tensor, ...]) -> None:
        """`num_samples`: with the silence that made whole steps of the chunk."""
        now, so_far = (output.numpy() for output in outputs)  # (T, K) each
        self.end_seconds = chunk.start_seconds + len(chunk.waveform) / self.spec.sample_rate
        self.settling.push(to_scores(so_far, self.output.scores), compete=self.output.scores == "softmax")
        self.num_units += len(now)
        self._logits = so_far[-1]
        if self.track is not None:
            step_seconds = num_samples / self.spec.sample_rate / len(now)
            self.track.push(chunk.start_seconds + step_seconds * np.arange(len(now), dtype=np.float64), now)


class SoundPartsJudge:
    """Sound for a model that cannot step: cut into parts of what it hears at once, the logits averaged by length."""

    settling = None  # a part is many seconds: too few of them to tell

    def __init__(self, calls: ModelCalls, output: ClassifyOutput, *, timeline: bool) -> None:
        """With `timeline` it also makes segments: one for each stretch of parts with the same label."""
        self.calls = calls
        wanted = calls.model.manifest.input
        assert wanted.sample_rate is not None
        assert wanted.max_samples is not None
        self.spec = WaveformSpec(wanted.sample_rate, wanted.max_samples)
        rate = wanted.sample_rate / wanted.max_samples
        self.output = output
        self.track = SegmentTrack(output, rate, EVERY_STEP) if timeline else None
        self.num_units = 0
        self.logit_sums = np.zeros(len(output.labels))
        self.num_samples = 0
        self.end_seconds = 0.0

    async def add(self, chunk: WaveformChunk) -> None:
        num_samples = len(chunk.waveform)
        if not self.num_units or num_samples >= SHORTEST_PART_SECONDS * self.spec.sample_rate:
            await self._judge(chunk)
        self.end_seconds = chunk.start_seconds + num_samples / self.spec.sample_rate

    async def _judge(self, chunk: WaveformChunk) -> None:
        num_samples = len(chunk.waveform)
        answer = await self.calls.run("forward", torch.from_numpy(chunk.waveform))
        logits = answer.outputs[0].numpy()
        self.num_units += 1
        self.num_samples += num_samples
        self.logit_sums += logits.astype(np.float64) * num_samples
        if self.track is not None:
            self.track.push(np.array([chunk.start_seconds]), logits[None])

    async def finish(self) -> None: ...

    def abandon(self) -> None: ...

    @property
    def scores(self) -> NDArray[np.float64]:
        mean = (self.logit_sums / max(self.num_samples, 1)).astype(np.float32)
        return to_scores(mean, self.output.scores)

    def close(self) -> tuple[Segment, ...] | None:
        return self.track.close(self.end_seconds) if self.track else None
