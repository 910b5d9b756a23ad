"""Sound -> vectors: one for all of it, one for each step, means over windows, and the log-mel spectrogram."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import DeadlineExceeded, MediaTooLarge
from app.media.request import MediaInfo, WaveformChunk
from app.media.sandbox import DecoderPool
from app.models.batching import Scheduler
from app.models.manifest import FeaturesOutput
from app.models.store import ServedModel
from app.pipelines.calls import ModelCalls, Stepper, whole_steps
from app.pipelines.reading import Cost, Upload, read_for, step_spec
from app.pipelines.windows import WindowMeans

CHUNK_SECONDS = 8.0  # of sound in one step

Level = Literal["clip", "steps", "windows"]
Vectors = NDArray[np.float32]
OnProgress = Callable[[float, Sequence[Vectors]], None]
"""With the seconds that have been read and, at the level `steps`, the vectors of all steps so far, in parts (T, D)."""


@dataclass(frozen=True, slots=True)
class FeaturesOptions:
    """What the client asked for beside the vector of the clip."""

    level: Level = "clip"
    window_seconds: float = 1.0
    window_hop_seconds: float = 1.0
    log_mel: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors of stretches of time, in order."""

    starts: NDArray[np.float64]
    """(T,) seconds since the first displayed frame, or the beginning of a sound without picture."""
    ends: NDArray[np.float64]
    """(T,) exclusive."""
    features: Vectors
    """(T, D)"""


@dataclass(frozen=True, slots=True)
class Features:
    """What the model makes of the sound, and what it cost."""

    media: MediaInfo
    model: ServedModel
    output: FeaturesOutput
    clip: Rows
    """One row: all that was heard."""
    steps: Rows | None
    windows: Rows | None
    log_mel: Vectors | None
    """(T, M), a row every `output.log_mel_hop_seconds`."""
    is_partial: bool
    """Time was up: it stands on what had been heard by then."""
    cost: Cost


class FeaturesPipeline:
    """Takes each upload through decoder and scheduler."""

    def __init__(self, decoders: DecoderPool, scheduler: Scheduler, max_values: int) -> None:
        """`max_values`: numbers in one answer."""
        self.decoders = decoders
        self.scheduler = scheduler
        self.max_values = max_values

    async def run(
        self,
        upload: Upload,
        model: ServedModel,
        options: FeaturesOptions,
        on_progress: OnProgress | None = None,
    ) -> Features:
        """The features of the upload's sound; `on_progress` is called after each chunk.

        Where time is up for an upload that takes a partial answer, those of what was heard by then.
        Raises UnsupportedMedia, InvalidMedia, MediaTooLarge over `max_values`, DeadlineExceeded.
        """
        listener = _Listener(ModelCalls(model, self.scheduler), options, self.max_values)
        on_chunk = None if on_progress is None else partial(listener.tell, on_progress)
        waveforms = [(listener.spec, listener)]
        read = await read_for(self.decoders, upload, waveforms=waveforms, on_chunk=on_chunk)
        is_partial = read.ended == "deadline"
        if is_partial:
            await listener.sum_up_so_far()
        calls = listener.calls
        cost = Cost(read.summary, read.summary.queue_seconds + calls.queue_seconds, calls.infer_seconds)
        return listener.result(read.media, is_partial, cost)


class _Listener:
    """Steps over the sound and keeps what was asked for: nothing of each step unless the steps themselves are."""

    def __init__(self, calls: ModelCalls, options: FeaturesOptions, max_values: int) -> None:
        self.calls = calls
        self.options = options
        self.values_left = self.max_values = max_values
        output, wanted = calls.model.manifest.output, calls.model.manifest.input
        assert isinstance(output, FeaturesOutput)
        assert wanted.step_samples is not None
        self.output = output
        self.step_samples = wanted.step_samples
        self.spec = step_spec(wanted, CHUNK_SECONDS)
        self.stepper = Stepper(calls)
        self.start_seconds: float | None = None
        self.read_seconds = 0.0
        self.heard_seconds = 0.0  # a chunk or so behind
        self.steps: list[Vectors] = []
        self.windows = WindowMeans(output.hop_seconds, options.window_seconds, options.window_hop_seconds)
        self.waveforms: list[NDArray[np.float32]] = []
        self.clip: Vectors = np.empty(0, np.float32)
        self.log_mel: Vectors | None = None

    async def add(self, chunk: WaveformChunk) -> None:
        if self.start_seconds is None:
            self.start_seconds = chunk.start_seconds
        self.read_seconds = chunk.start_seconds + len(chunk.waveform) / self.spec.sample_rate
        waveform = whole_steps(chunk.waveform, self.step_samples)
        await self.stepper.push(torch.from_numpy(waveform), partial(self._take, chunk))

    async def finish(self) -> None:
        await self.stepper.finish()
        await self._sum_up()

    async def sum_up_so_far(self) -> None:
        """For an answer that is due: before what waits. Raises DeadlineExceeded where nothing was heard."""
        if not self.heard_seconds:
            raise DeadlineExceeded("Nothing of the sound could be heard before the deadline.")
        self.calls.live = True
        await self._sum_up()

    def abandon(self) -> None:
        self.stepper.abandon()

    def tell(self, on_progress: OnProgress) -> None:
        on_progress(self.read_seconds, self.steps)

    def result(self, media: MediaInfo, is_partial: bool, cost: Cost) -> Features:
        assert self.start_seconds is not None
        start = self.start_seconds
        steps = windows = None
        if self.options.level == "steps":
            vectors = np.concatenate(self.steps)
            starts = start + np.arange(len(vectors), dtype=np.float64) * self.output.hop_seconds
            steps = self._rows(starts, starts + self.output.hop_seconds, vectors)
        if self.options.level == "windows":
            first, last, vectors = self.windows.finish(self.heard_seconds - start)
            windows = self._rows(start + first, start + last, vectors)
        clip = Rows(np.array([start]), np.array([self.heard_seconds]), self.clip[None])
        return Features(media, self.calls.model, self.output, clip, steps, windows, self.log_mel, is_partial, cost)

    async def _sum_up(self) -> None:
        """What there is to say of all that was heard."""
        assert self.stepper.state is not None
        answer = await self.calls.run("clip", torch.empty(0), self.stepper.state)
        self.clip = answer.outputs[0].numpy()
        if self.options.log_mel:
            waveform = torch.from_numpy(np.concatenate(self.waveforms))
            answer = await self.calls.run("log_mel", waveform)
            rows, length = answer.outputs  # (T, M), ()
            self.log_mel = rows[: int(length)].numpy()

    def _rows(self, starts: NDArray[np.float64], ends: NDArray[np.float64], vectors: Vectors) -> Rows:
        """The last step may have been filled up with silence: it ends with the sound all the same."""
        return Rows(starts, np.minimum(ends, self.heard_seconds), vectors)

    async def _take(self, chunk: WaveformChunk, outputs: tuple[torch.Tensor, ...]) -> None:
        seconds = len(chunk.waveform) / self.spec.sample_rate
        self.heard_seconds = chunk.start_seconds + seconds
        if self.options.log_mel:
            self._count(round(seconds / self.output.log_mel_hop_seconds) * self.output.num_mels)
            self.waveforms.append(chunk.waveform)
        if self.options.level == "clip":
            return
        vectors = outputs[0].numpy()  # (T, D)
        if self.options.level == "steps":
            self._count(vectors.size)
            self.steps.append(vectors)
        else:
            self._count(self.windows.push(vectors) * self.output.step_dimension)

    def _count(self, num_values: int) -> None:
        self.values_left -= num_values
        if self.values_left < 0:
            raise MediaTooLarge(
                f"The answer would hold more than {self.max_values} numbers, which is the limit: ask for a part with "
                "start_seconds and end_seconds, or for windows that are further apart."
            )
