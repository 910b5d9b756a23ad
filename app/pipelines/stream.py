"""A stream: one model stepped over frames or sound as they come, from any point on."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import InvalidMedia, MalformedRequest
from app.media.request import FrameSpec, WaveformSpec
from app.models.store import ServedModel
from app.models.tokens import StreamPoint
from app.pipelines.calls import ModelCalls
from app.pipelines.reading import frame_spec, step_spec
from app.pipelines.readings import Reading, StreamEnd, reader_of
from app.pipelines.segments import RuleOverrides

NOTHING_HEARD = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class StreamStep:
    """One step of a stream."""

    sequence: int
    """1 for the first step of the stream, whatever it was resumed from."""
    seconds: float
    """When the step begins, in the stream's time."""
    reading: Reading


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
        self._reader = reader_of(calls, self.rate, overrides, point)

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
        """No later picture may have an earlier time than this: that of the last step's beginning, but for rounding."""
        return self.seconds - 1 / self.rate - 1e-9 if self.sequence else -math.inf

    def frame_spec(self, chunk_length: int) -> FrameSpec:
        """Frames at the model's rate and size; once there has been a frame, at the size of that one."""
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

    async def step_rest(self) -> list[StreamStep]:
        """The last step, over sound that makes no whole one, and silence; none where there is no such sound.

        As at the end of a file. Nothing can follow it: take the point to go on from before.
        """
        if not len(self._tail):
            return []
        assert self.model.manifest.input.step_samples is not None
        return await self.step_sound(np.zeros(self.model.manifest.input.step_samples - len(self._tail), np.float32))

    async def finish(self, end_seconds: float = math.inf) -> StreamEnd | None:
        """What is left to say, after `step_rest`; None where nothing has come.

        `end_seconds`: when the video or sound ends, where that is known; it may be before the end of its last step.
        """
        if self._state is None:
            return None
        return await self._reader.finish(min(self.seconds, end_seconds), self._state)

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
