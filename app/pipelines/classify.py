"""Video, sound or both -> labels, and segments on a timeline, for one model or several in one decode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import DeadlineExceeded
from app.media.request import FrameChunk, FrameSpec, MediaInfo, Sampling, WaveformChunk, WaveformSpec
from app.media.sandbox import DecoderPool
from app.models.batching import Scheduler
from app.models.manifest import ClassifyOutput
from app.models.store import ServedModel
from app.pipelines.calls import ModelCalls
from app.pipelines.judges import (
    CHUNK_SECONDS,
    ClipJudge,
    Judge,
    SoundPartsJudge,
    SoundStepsJudge,
    TimelineJudge,
)
from app.pipelines.reading import Consumer, Cost, Upload, read_for
from app.pipelines.segments import RuleOverrides, Segment

EAGER_CHUNK_SECONDS = 1.0
"""In one step, where the answer may be wanted at any time: a frame then costs more, and what is judged is newer."""


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """What the client asked for."""

    top_k: int = 5
    min_score: float = 0.0
    timeline: bool = False
    early_exit: bool = False
    """Stop where the scores of all models have settled."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    label: str
    score: float
    """In [0, 1]."""


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What one model says of the video or the sound."""

    model: ServedModel
    labels: tuple[LabelScore, ...]
    """Best first."""
    segments: tuple[Segment, ...] | None
    frames_used: int
    """Frames the labels were judged by; those of a video with fewer are counted as often as they were shown.

    Of sound: the steps, or the parts for a model that cannot step.
    """
    sampling: Sampling
    is_settled: bool
    """The answer stands on a part of the video or sound, of which more would hardly change it."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer of every model asked, and what it cost."""

    media: MediaInfo
    results: tuple[ModelResult, ...]
    is_partial: bool
    """Time was up: it stands on what had been judged by then."""
    cost: Cost


@dataclass(frozen=True, slots=True)
class ModelProgress:
    """What one model says so far. It may be a chunk behind what has been read."""

    model: ServedModel
    seconds: float
    """Judged so far."""
    labels: tuple[LabelScore, ...]
    """Of what was judged so far, best first; none where the model looks at the whole at once."""
    segments: tuple[Segment, ...]
    """Those that have ended."""


OnProgress = Callable[[tuple[ModelProgress, ...]], None]


class ClassifyPipeline:
    """Takes each upload through decoder, scheduler and segments."""

    def __init__(self, decoders: DecoderPool, scheduler: Scheduler, overrides: RuleOverrides) -> None:
        self.decoders = decoders
        self.scheduler = scheduler
        self.overrides = overrides

    async def run(
        self,
        upload: Upload,
        models: list[ServedModel],
        options: ClassifyOptions,
        on_progress: OnProgress | None = None,
    ) -> Classification:
        """What each of the models says of the upload; `on_progress` gets what they say on the way.

        Raises UnsupportedMedia, InvalidMedia (also where a model needs sound or a picture and there is none),
        DeadlineExceeded.
        """
        overrides = self.overrides if options.timeline else None
        is_eager = options.early_exit or upload.takes_partial
        views = [_View(ModelCalls(model, self.scheduler), overrides, is_eager=is_eager) for model in models]
        read = await read_for(
            self.decoders,
            upload,
            [wanted for view in views for wanted in view.frames],
            [wanted for view in views for wanted in view.waveforms],
            on_chunk=on_progress and (lambda: on_progress(tuple(view.progress(options) for view in views))),
            is_enough=(lambda: all(view.is_settled for view in views)) if options.early_exit else None,
        )
        if read.ended == "deadline" and not any(view.knows_something for view in views):
            raise DeadlineExceeded("Nothing of the file could be judged before the deadline.")
        end_seconds = (upload.start_seconds or 0.0) + read.summary.duration_seconds
        return Classification(
            media=read.media,
            results=tuple(
                view.result(options, end_seconds, read.summary.sampling)
                if read.ended == "end"
                else view.result_so_far(options)
                for view in views
            ),
            is_partial=read.ended == "deadline",
            cost=Cost(
                decode=read.summary,
                queue_seconds=read.summary.queue_seconds + sum(view.calls.queue_seconds for view in views),
                infer_seconds=sum(view.calls.infer_seconds for view in views),
            ),
        )


def reads_on_arrival(models: Sequence[ServedModel], options: ClassifyOptions, *, in_events: bool) -> bool:
    """Whether anything can be told of an upload before all of it is there.

    A model whose frames are spread over the video needs its end. Where there is something to tell before that, the
    video is decoded once for each.
    """
    wanted = [model.manifest.input for model in models]
    if any(one.media != "video" for one in wanted):
        return all(one.media == "audio" for one in wanted)
    return all(one.sampling == "rate" for one in wanted) or (options.early_exit or (in_events and options.timeline))


class _View:
    """One model's view of one upload: one judge for the labels, and one for segments, which may be the same."""

    def __init__(self, calls: ModelCalls, overrides: RuleOverrides | None, *, is_eager: bool = False) -> None:
        """With `overrides` there will be segments. `is_eager`: the labels so far may be asked for at any time."""
        chunk_seconds = EAGER_CHUNK_SECONDS if is_eager else CHUNK_SECONDS
        self.calls = calls
        self.frames: list[tuple[FrameSpec, Consumer[FrameChunk]]] = []
        self.waveforms: list[tuple[WaveformSpec, Consumer[WaveformChunk]]] = []
        wanted, output = calls.model.manifest.input, calls.model.manifest.output
        assert isinstance(output, ClassifyOutput)
        self.output = output
        self.timeline: TimelineJudge | SoundStepsJudge | SoundPartsJudge | None = None
        if wanted.media == "audio":
            self.timeline = (
                SoundPartsJudge(calls, output, timeline=overrides is not None)
                if wanted.step_samples is None
                else SoundStepsJudge(calls, output, overrides, chunk_seconds)
            )
            self.judge: Judge = self.timeline
            self.waveforms.append((self.timeline.spec, self.timeline))
            return
        if overrides is not None or is_eager or wanted.sampling == "rate":
            self.timeline = self.judge = TimelineJudge(calls, output, overrides, chunk_seconds)
            self.frames.append((self.timeline.spec, self.timeline))
        if wanted.sampling == "uniform":
            self.judge = clip = ClipJudge(calls, output)
            self.frames.append((clip.spec, clip))

    @property
    def is_settled(self) -> bool:
        settling = self.timeline.settling if self.timeline is not None else None
        return settling is not None and settling.is_settled

    @property
    def knows_something(self) -> bool:
        return self.timeline is not None and self.timeline.num_units > 0

    def progress(self, options: ClassifyOptions) -> ModelProgress:
        """What there is to say by now."""
        judge = self.timeline
        if judge is None or not judge.num_units:
            return ModelProgress(self.calls.model, 0.0, (), ())
        segments = () if judge.track is None else tuple(judge.track.segments)
        return ModelProgress(self.calls.model, judge.end_seconds, _best(self.output, judge.scores, options), segments)

    def result(self, options: ClassifyOptions, end_seconds: float, sampling: Sampling) -> ModelResult:
        match self.timeline:
            case None:
                segments = None
            case TimelineJudge():
                segments = self.timeline.close(end_seconds)
            case _:
                segments = self.timeline.close()
        return ModelResult(
            model=self.calls.model,
            labels=_best(self.output, self.judge.scores, options),
            segments=segments,
            frames_used=self.judge.num_units,
            sampling=sampling if isinstance(self.judge, ClipJudge) else "exact",
            is_settled=False,
        )

    def result_so_far(self, options: ClassifyOptions) -> ModelResult:
        """Of what has been judged by now."""
        judge = self.timeline
        segments = None
        if judge is not None and judge.track is not None:
            segments = judge.track.close(judge.end_seconds)
        return ModelResult(
            model=self.calls.model,
            labels=_best(self.output, judge.scores, options) if judge is not None and judge.num_units else (),
            segments=segments,
            frames_used=judge.num_units if judge is not None else 0,
            sampling="exact",
            is_settled=self.is_settled,
        )


def _best(output: ClassifyOutput, scores: NDArray[np.float64], options: ClassifyOptions) -> tuple[LabelScore, ...]:
    order = np.argsort(-scores, kind="stable")[: options.top_k]
    return tuple(LabelScore(output.labels[i], float(scores[i])) for i in order if scores[i] >= options.min_score)
