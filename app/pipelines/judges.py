"""What a classifier makes of one upload as it is decoded: of a clip, of a timeline, of sound in steps or in parts."""

from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from app.media.request import FrameChunk, WaveformChunk, WaveformSpec
from app.models.manifest import ClassifyOutput
from app.pipelines.calls import ModelCalls, Stepper, whole_steps
from app.pipelines.reading import frame_spec, step_spec
from app.pipelines.segments import OverlappingSegmenter, Segment, Segmenter, SegmentRules
from app.pipelines.settling import Settling

CHUNK_SECONDS = 8.0  # of a timeline in one step: long enough to share the cost of a call, short enough to stream
SHORTEST_PART_SECONDS = 0.5  # what is left over after the last whole part counts from this length on
AS_THEY_ARE = SegmentRules(smoothing_seconds=0.0, margin=0.0, shortest_seconds=0.0)


class Judge(Protocol):
    """What all of them come to."""

    num_units: int
    """Frames, steps or parts that the logits stand on."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """(K,) for all that was seen or heard."""


def to_scores(logits: NDArray[np.floating], kind: str) -> NDArray[np.float64]:
    """Scores in [0, 1] from logits (..., K): softmax over K, or the sigmoid of each."""
    wide = torch.from_numpy(logits).double()
    scores = torch.sigmoid(wide) if kind == "sigmoid" else torch.softmax(wide, dim=-1)
    return scores.numpy()


class SegmentTrack:
    """Logits of one moment after the other -> segments."""

    def __init__(self, output: ClassifyOutput, rate: float, rules: SegmentRules) -> None:
        """`rate`: moments a second."""
        self.output = output
        kind = Segmenter if output.scores == "softmax" else OverlappingSegmenter
        self.segmenter: Segmenter | OverlappingSegmenter = kind(output.labels, rate, rules)
        self.segments: list[Segment] = []

    def push(self, times: NDArray[np.float64], logits: NDArray[np.float32]) -> None:
        """The moments that begin at `times` (T,), in seconds, with `logits` (T, K)."""
        for seconds, scores in zip(times, to_scores(logits, self.output.scores), strict=True):
            self.segments.extend(self.segmenter.push(float(seconds), scores))

    def close(self, end_seconds: float) -> tuple[Segment, ...]:
        """All segments, in order of their end."""
        self.segments.extend(self.segmenter.finish(end_seconds))
        return tuple(self.segments)


class ClipJudge:
    """The frames of one `forward`: spread over the whole video."""

    def __init__(self, calls: ModelCalls) -> None:
        self.calls = calls
        wanted = calls.model.manifest.input
        assert wanted.clip_length is not None
        self.spec = frame_spec(wanted, clip_length=wanted.clip_length)
        self.chunks: list[FrameChunk] = []
        self.num_units = 0
        self.logits = np.empty(0, np.float32)

    async def add(self, chunk: FrameChunk) -> None:
        self.chunks.append(chunk)

    async def finish(self) -> None:
        frames = np.concatenate([chunk.frames for chunk in self.chunks])
        self.num_units = len(frames)
        answer = await self.calls.run("forward", torch.from_numpy(frames))
        self.logits = answer.outputs[0].numpy()

    def abandon(self) -> None: ...


class TimelineJudge:
    """The frames of `step`: at the model's rate, chunk by chunk."""

    def __init__(
        self,
        calls: ModelCalls,
        output: ClassifyOutput,
        rules: SegmentRules | None,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> None:
        """With `rules` it also makes segments."""
        self.stepper = Stepper(calls)
        wanted = calls.model.manifest.input
        assert wanted.rate is not None
        self.rate = wanted.rate
        self.spec = frame_spec(wanted, rate=self.rate, chunk_length=max(1, round(chunk_seconds * self.rate)))
        self.output = output
        self.settling = Settling(self.rate)
        self.judges_moments = wanted.sampling == "rate"
        self.track = SegmentTrack(output, self.rate, rules) if rules else None
        self.num_units = 0
        self.logit_sums = np.zeros(len(output.labels))
        self.so_far = np.zeros(len(output.labels), np.float32)
        self.last_seconds = 0.0

    async def add(self, chunk: FrameChunk) -> None:
        await self.stepper.push(torch.from_numpy(chunk.frames), partial(self._take, chunk))

    async def finish(self) -> None:
        await self.stepper.finish()

    def abandon(self) -> None:
        self.stepper.abandon()

    @property
    def logits(self) -> NDArray[np.float32]:
        """Of everything so far. A model that samples by rate says the mean of its judgements of each moment."""
        if not self.judges_moments:
            return self.so_far
        return (self.logit_sums / max(self.num_units, 1)).astype(np.float32)

    @property
    def end_seconds(self) -> float:
        """Of what was judged so far."""
        return self.last_seconds + 1 / self.rate if self.num_units else 0.0

    def close(self, end_seconds: float) -> tuple[Segment, ...] | None:
        # The sound of the same request may go on for longer than the picture.
        return self.track.close(min(end_seconds, self.last_seconds + 1 / self.rate)) if self.track else None

    async def _take(self, chunk: FrameChunk, outputs: tuple[torch.Tensor, ...]) -> None:
        now, so_far = (output.numpy() for output in outputs)  # (T, K) each
        means = (self.logit_sums + now.cumsum(axis=0)) / (self.num_units + np.arange(1, len(now) + 1)[:, None])
        scores = to_scores(means if self.judges_moments else so_far, self.output.scores)
        self.settling.push(scores, compete=self.output.scores == "softmax")
        self.num_units += len(now)
        self.logit_sums += now.sum(axis=0)
        self.so_far = so_far[-1]
        self.last_seconds = float(chunk.times[-1])
        if self.track is not None:
            self.track.push(chunk.times, now)


class SoundStepsJudge:
    """Sound through `step`, chunk by chunk. The labels are the last `so_far`, which judges everything heard."""

    def __init__(
        self,
        calls: ModelCalls,
        output: ClassifyOutput,
        rules: SegmentRules | None,
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
        self.track = SegmentTrack(output, rate, rules) if rules else None
        self.num_units = 0
        self.logits = np.empty(0, np.float32)
        self.end_seconds = 0.0

    async def add(self, chunk: WaveformChunk) -> None:
        waveform = whole_steps(chunk.waveform, self.step_samples)
        self.end_seconds = chunk.start_seconds + len(chunk.waveform) / self.spec.sample_rate
        await self.stepper.push(torch.from_numpy(waveform), partial(self._take, chunk.start_seconds, len(waveform)))

    async def finish(self) -> None:
        await self.stepper.finish()

    def abandon(self) -> None:
        self.stepper.abandon()

    def close(self) -> tuple[Segment, ...] | None:
        return self.track.close(self.end_seconds) if self.track else None

    async def _take(self, start_seconds: float, num_samples: int, outputs: tuple[torch.Tensor, ...]) -> None:
        now, so_far = (output.numpy() for output in outputs)  # (T, K) each
        self.settling.push(to_scores(so_far, self.output.scores), compete=self.output.scores == "softmax")
        self.num_units += len(now)
        self.logits = so_far[-1]
        if self.track is not None:
            step_seconds = num_samples / self.spec.sample_rate / len(now)
            self.track.push(start_seconds + step_seconds * np.arange(len(now), dtype=np.float64), now)


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
        self.track = SegmentTrack(output, rate, AS_THEY_ARE) if timeline else None
        self.num_units = 0
        self.logit_sums = np.zeros(len(output.labels))
        self.num_samples = 0
        self.end_seconds = 0.0

    async def add(self, chunk: WaveformChunk) -> None:
        num_samples = len(chunk.waveform)
        self.end_seconds = chunk.start_seconds + num_samples / self.spec.sample_rate
        if self.num_units and num_samples < SHORTEST_PART_SECONDS * self.spec.sample_rate:
            return
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
    def logits(self) -> NDArray[np.float32]:
        return (self.logit_sums / max(self.num_samples, 1)).astype(np.float32)

    def close(self) -> tuple[Segment, ...] | None:
        return self.track.close(self.end_seconds) if self.track else None
