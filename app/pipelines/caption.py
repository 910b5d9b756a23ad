"""Video -> comments in words: on all of it, and on each shot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import exp

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import DeadlineExceeded
from app.media.request import FrameChunk, FrameSpec, MediaInfo
from app.media.sandbox import DecoderPool
from app.models.batching import Scheduler
from app.models.manifest import SPECIAL_WORDS, CaptionOutput
from app.models.store import ServedModel
from app.models.work import BeamSearch
from app.pipelines.calls import ModelCalls
from app.pipelines.parts import Parts
from app.pipelines.reading import Consumer, Cost, Upload, frame_spec, read_for
from app.pipelines.sentences import sentence, shifted
from app.pipelines.shots import ShotFinder

END = SPECIAL_WORDS.index("<eos>")
CHUNK_FRAMES = 32


@dataclass(frozen=True, slots=True)
class CaptionOptions:
    """What the client asked for."""

    beam: int = 4
    max_length: int | None = None
    """Tokens; None, or more than the model writes: as many as it does."""
    length_penalty: float | None = None
    """None: the model's own."""
    timeline: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    text: str
    score: float
    """In [0, 1]: the probability of its words, adjusted for their number by the length penalty."""


@dataclass(frozen=True, slots=True)
class CommentSegment:
    """[start_seconds, end_seconds) and the best comment on it."""

    start_seconds: float
    end_seconds: float
    comment: Comment


@dataclass(frozen=True, slots=True)
class Caption:
    """What the model says of the video, and what it cost."""

    media: MediaInfo
    model: ServedModel
    comments: tuple[Comment, ...]
    """Best first. Of a video that is longer than what the model is shown at once, one: the parts' best, in order."""
    segments: tuple[CommentSegment, ...] | None
    shots_by: ServedModel | None
    """Whose joins the segments begin and end at; None: those of windows."""
    is_partial: bool
    """Time was up: it stands on the parts that had been described by then."""
    cost: Cost


OnProgress = Callable[[Sequence[CommentSegment]], None]
"""With the segments so far, without the last one: only the end of the video says where that ends."""


class CaptionPipeline:
    """Takes each upload through decoder, shots and scheduler."""

    def __init__(self, decoders: DecoderPool, scheduler: Scheduler) -> None:
        self.decoders = decoders
        self.scheduler = scheduler

    async def run(
        self,
        upload: Upload,
        model: ServedModel,
        options: CaptionOptions,
        shots_by: ServedModel | None = None,
        on_progress: OnProgress | None = None,
    ) -> Caption:
        """Comments on the upload and, for a timeline, on each of the shots that `shots_by` finds, from one decode.

        `on_progress` is called before each part but the first is described. Where time is up for an upload that takes a
        partial answer, the comments cover the parts described by then. Raises UnsupportedMedia, InvalidMedia,
        DeadlineExceeded.
        """
        writer = _Writer(ModelCalls(model, self.scheduler), options)
        frames: list[tuple[FrameSpec, Consumer[FrameChunk]]] = []
        shots = ShotFinder(ModelCalls(shots_by, self.scheduler)) if options.timeline and shots_by else None
        segments = whole = _Described(writer, on_progress)
        if shots is not None:
            frames.append((shots.spec, shots))  # first: it must have finished when the parts do
            whole = _Described(writer)
        if writer.wanted.sampling == "uniform":
            clip = _Clip(writer)
            whole = clip.described
            frames.append((clip.spec, clip))
        if options.timeline or whole is segments:
            frames.append(segments.consumer(shots))
        if whole is not segments and writer.wanted.sampling == "rate":
            frames.append(whole.consumer())
        read = await read_for(self.decoders, upload, frames)
        is_partial = read.ended == "deadline"
        if is_partial and not whole.parts:
            whole = segments
            if not whole.parts:
                raise DeadlineExceeded("No part of the video could be described before the deadline.")
        calls = [writer.calls] if shots is None else [writer.calls, shots.calls]
        return Caption(
            media=read.media,
            model=model,
            comments=whole.comments(),
            segments=segments.until((upload.start_seconds or 0.0) + read.summary.duration_seconds)
            if options.timeline
            else None,
            shots_by=shots_by if shots is not None else None,
            is_partial=is_partial,
            cost=Cost(
                decode=read.summary,
                queue_seconds=read.summary.queue_seconds + sum(one.queue_seconds for one in calls),
                infer_seconds=sum(one.infer_seconds for one in calls),
            ),
        )


@dataclass(frozen=True, slots=True)
class _Part:
    segment: CommentSegment
    comments: tuple[Comment, ...]
    """All of them, the segment's first."""


class _Writer:
    """What the model writes of the frames of one part."""

    def __init__(self, calls: ModelCalls, options: CaptionOptions) -> None:
        output = calls.model.manifest.output
        assert isinstance(output, CaptionOutput)
        self.calls = calls
        self.wanted = calls.model.manifest.input
        self.output = output
        penalty = output.length_penalty if options.length_penalty is None else options.length_penalty
        self.search = BeamSearch(options.beam, min(options.max_length or 256, output.max_length), penalty)
        self.written: dict[tuple[float, float], tuple[Comment, ...]] = {}
        """Comments by the part's [start_seconds, end_seconds): one part may be a shot and also the whole video."""

    async def write(self, frames: NDArray[np.uint8], start_seconds: float) -> tuple[Comment, ...]:
        """Comments on frames (T, H, W, 3) of which the first is on display at `start_seconds`; best first."""
        answer = await self.calls.run("forward", torch.from_numpy(frames), search=self.search)
        tokens, scores = (output.tolist() for output in answer.outputs)  # (beam, L), (beam,)
        comments: dict[str, Comment] = {}
        for row, score in zip(tokens, scores, strict=True):
            words = [self.output.vocabulary[token] for token in row[: row.index(END) if END in row else None]]
            if self.output.numbers_are_seconds:
                words = shifted(words, start_seconds)
            comment = Comment(sentence(words), min(1.0, exp(score)))
            comments.setdefault(comment.text, comment)
        return tuple(comments.values())


@dataclass
class _Described:
    """A video in parts, and what was written of each."""

    writer: _Writer
    on_progress: OnProgress | None = None
    parts: list[_Part] = field(default_factory=list)

    def consumer(self, shots: ShotFinder | None = None) -> tuple[FrameSpec, Parts]:
        """What takes the frames, and which."""
        wanted = self.writer.wanted
        assert wanted.rate is not None
        assert wanted.clip_length is not None
        spec = frame_spec(wanted, rate=wanted.rate, chunk_length=CHUNK_FRAMES)
        return spec, Parts(spec, wanted.clip_length, self._take, shots)

    def comments(self) -> tuple[Comment, ...]:
        """On all of it."""
        if len(self.parts) == 1:
            return self.parts[0].comments
        best = [part.segment.comment for part in self.parts]
        return (Comment(" ".join(one.text for one in best), float(np.mean([one.score for one in best]))),)

    def until(self, end_seconds: float) -> tuple[CommentSegment, ...]:
        """The segments; the last one ends with the video, which its last frame may not fill."""
        segments = [part.segment for part in self.parts]
        return tuple(replace(one, end_seconds=min(one.end_seconds, end_seconds)) for one in segments)

    async def _take(self, frames: NDArray[np.uint8], start_seconds: float, end_seconds: float) -> None:
        if self.parts and self.on_progress is not None:
            self.on_progress([part.segment for part in self.parts])
        wanted, written = self.writer.wanted, self.writer.written
        if wanted.sampling == "uniform":
            assert wanted.clip_length is not None
            frames = frames[np.linspace(0, len(frames) - 1, wanted.clip_length).round().astype(int)]
        if (start_seconds, end_seconds) not in written:
            written[start_seconds, end_seconds] = await self.writer.write(frames, start_seconds)
        comments = written[start_seconds, end_seconds]
        self.parts.append(_Part(CommentSegment(start_seconds, end_seconds, comments[0]), comments))


class _Clip:
    """The frames of a model that is shown some of the whole video: spread over it."""

    def __init__(self, writer: _Writer) -> None:
        assert writer.wanted.clip_length is not None
        self.spec = frame_spec(writer.wanted, clip_length=writer.wanted.clip_length)
        self.described = _Described(writer)
        self._chunks: list[FrameChunk] = []

    async def add(self, chunk: FrameChunk) -> None:
        self._chunks.append(chunk)

    async def finish(self) -> None:
        frames = np.concatenate([chunk.frames for chunk in self._chunks])
        times = np.concatenate([chunk.times for chunk in self._chunks])
        comments = await self.described.writer.write(frames, float(times[0]))
        segment = CommentSegment(float(times[0]), float(times[-1]), comments[0])
        self.described.parts.append(_Part(segment, comments))

    def abandon(self) -> None: ...
