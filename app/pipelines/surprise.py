"""How far each frame of a video is from what was forecast of it, and where that stands out."""

import asyncio
from array import array
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from app.media.request import FrameChunk
from app.pipelines.calls import ModelCalls, Stepper
from app.pipelines.reading import frame_spec

CHUNK_SECONDS = 1.0
"""In one step, which others wait for, and an answer that is due. 30 frames through `forecast` take 1.13 s of a core in
one step, 1.05 s in two and 1.04 s in three."""

PEAK_DEVIATIONS = 8.0
"""Standard deviations above the median at which a score is a peak, estimated from the median absolute deviation."""
EDGE_SHARE = 0.5
"""Of the way from the median to a peak: the segment around a peak goes on for as long as the score is above this."""
SMALLEST_RISE = 0.02
"""A peak is at least this far above the median: 5 of 255 levels. A video that stands still has hardly any deviation."""
MERGED_SECONDS = 0.5
"""Segments with less than this between them are one: what enters and what leaves again is one surprise."""
NORMAL_MAD = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


@dataclass(frozen=True, slots=True)
class SurpriseSegment:
    """[start_seconds, end_seconds) in which frames came that the forecaster did not see coming."""

    start_seconds: float
    end_seconds: float
    score: float
    """The largest in it."""


@dataclass(frozen=True, slots=True)
class Surprise:
    """One score for each frame but the first, at the model's rate."""

    times: NDArray[np.float64]
    """(N,) seconds since the first displayed frame."""
    scores: NDArray[np.float64]
    """(N,) root of the mean squared difference to the forecast, over pixels and colours, in [0, 1]."""
    segments: tuple[SurpriseSegment, ...]


class Comparison:
    """Compares each frame with the forecast that was made before it came."""

    def __init__(self) -> None:
        self.forecast: torch.Tensor | None = None
        """(H, W, 3) in [0, 1], of the frame to come; None: the next frame has no forecast."""

    async def push(self, next_frames: torch.Tensor, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """`forecast_errors` of the next frames (T, H, W, 3): (T,), or (T - 1,) where the first of them has no forecast.

        `next_frames` (T, H, W, 3) in [0, 1]: the model's forecast after each of them.
        """
        without = 1 if self.forecast is None else 0
        known = next_frames[:-1] if self.forecast is None else torch.cat([self.forecast[None], next_frames[:-1]])
        errors = await asyncio.to_thread(forecast_errors, known.numpy(), frames[without:])
        self.forecast = next_frames[-1].clone()
        return errors


class SurpriseCurve:
    """Steps over the video and compares each frame with the forecast made before it came.

    What it keeps of the video is the state, one chunk, one forecast, and 16 bytes for each frame.
    """

    def __init__(self, calls: ModelCalls) -> None:
        self.stepper = Stepper(calls)
        wanted = calls.model.manifest.input
        assert wanted.rate is not None
        self.rate = wanted.rate
        self.spec = frame_spec(wanted, rate=self.rate, chunk_length=max(1, round(CHUNK_SECONDS * self.rate)))
        self.comparison = Comparison()
        self.compared: tuple[FrameChunk, torch.Tensor] | None = None
        """The last chunk and the state (S,) after it."""
        self.times = array("d")
        self.scores = array("d")

    async def add(self, chunk: FrameChunk) -> None:
        await self.stepper.push(torch.from_numpy(chunk.frames), partial(self._take, chunk))

    async def finish(self) -> None:
        await self.stepper.finish()

    def abandon(self) -> None:
        self.stepper.abandon()

    def result(self, end_seconds: float) -> Surprise:
        """`end_seconds`: of what was read, which the last frame may not fill."""
        times, scores = np.array(self.times), np.array(self.scores)
        found = find_peaks(times, scores, self.rate)
        segments = tuple(replace(one, end_seconds=min(one.end_seconds, end_seconds)) for one in found)
        return Surprise(times, scores, segments)

    async def _take(self, chunk: FrameChunk, outputs: tuple[torch.Tensor, ...]) -> None:
        (next_frames,) = outputs  # (T, H, W, 3) in [0, 1]
        scores = await self.comparison.push(next_frames, chunk.frames)
        self.times.extend(chunk.times[len(chunk.times) - len(scores) :])
        self.scores.extend(scores)
        assert self.stepper.state is not None
        self.compared = chunk, self.stepper.state


def forecast_errors(forecasts: NDArray[np.float32], frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(T,) root mean squared difference of (T, H, W, 3) in [0, 1] and (T, H, W, 3) uint8."""
    return np.array(
        [
            np.sqrt(np.mean((forecast - frame.astype(np.float32) / 255.0) ** 2, dtype=np.float64))
            for forecast, frame in zip(forecasts, frames, strict=True)
        ]
    )


def find_peaks(times: NDArray[np.float64], scores: NDArray[np.float64], rate: float) -> tuple[SurpriseSegment, ...]:
    """Where the scores (N,) at `times`, `rate` a second, stand out from the rest of the video.

    A peak is above median + max(PEAK_DEVIATIONS * deviation, SMALLEST_RISE), with the deviation from the median
    absolute deviation, which the peaks themselves do not move. From there a segment goes on to both sides while the
    score is above EDGE_SHARE of that rise (hysteresis); neighbours within MERGED_SECONDS are merged.
    """
    if not len(scores):
        return ()
    median = float(np.median(scores))
    deviation = NORMAL_MAD * float(np.median(np.abs(scores - median)))
    rise = max(PEAK_DEVIATIONS * deviation, SMALLEST_RISE)
    is_raised = np.concatenate([[False], scores > median + EDGE_SHARE * rise, [False]])
    edges = np.flatnonzero(is_raised[1:] != is_raised[:-1]).reshape(-1, 2)  # [first, last + 1) of each stretch
    found: list[SurpriseSegment] = []
    for first, after in edges:
        largest = float(scores[first:after].max())
        if largest <= median + rise:
            continue
        start, end = float(times[first]), float(times[after - 1]) + 1 / rate
        if found and start - found[-1].end_seconds < MERGED_SECONDS:
            before = found.pop()
            start, largest = before.start_seconds, max(before.score, largest)
        found.append(SurpriseSegment(start, end, largest))
    return tuple(found)
