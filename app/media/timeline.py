"""When each frame of a video is displayed, and which of them a request wants."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidMedia, MediaTooLarge
from app.media.request import FrameSpec, MediaLimits, MediaRequest, Sampling
from app.media.sampling import Part, Ticks, cut_part, frames_at, moments, spread


@dataclass(frozen=True, slots=True)
class Timeline:
    """The displayed frames of a video, in display order."""

    times: Ticks
    """(N,) never falling, N >= 1."""
    end_ticks: int
    """When the last frame leaves the display."""
    time_base: Fraction
    """Seconds in a tick."""

    @property
    def duration_seconds(self) -> float:
        return float((self.end_ticks - int(self.times[0])) * self.time_base)


@dataclass(frozen=True, slots=True)
class Pick:
    """The frames for one FrameSpec."""

    indices: NDArray[np.int64]
    """(T,) into the timeline, never falling."""
    moments: NDArray[np.float64]
    """(T,) seconds since the first displayed frame."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The frames for all specs of a request."""

    picks: list[Pick]
    """By spec."""
    sampling: Sampling
    first_seconds: float
    """When the first frame of the video is displayed, in the file's own time."""
    asked_seconds: float
    """Length of the part asked for."""


def last_duration(times: Ticks, declared: int | None, frame_rate: Fraction | None, time_base: Fraction) -> int:
    """Ticks for which the last frame is displayed: as the file says, else as long as the one before it."""
    if declared and declared > 0:
        return declared
    if len(times) > 1 and times[-1] > times[-2]:
        return int(times[-1] - times[-2])
    return max(1, round(1 / (frame_rate * time_base))) if frame_rate else 1


def check_duration(duration_seconds: float, limits: MediaLimits) -> None:
    """Raise MediaTooLarge over `max_duration_seconds`."""
    if duration_seconds > limits.max_duration_seconds:
        raise MediaTooLarge(
            f"The file lasts {duration_seconds:.1f} s; the limit is {limits.max_duration_seconds:.0f} s."
        )


def part_of(timeline: Timeline, request: MediaRequest) -> Part:
    """The part asked for; raises InvalidMedia where the video has no such part."""
    part = cut_part(timeline.times, timeline.end_ticks, timeline.time_base, request.start_seconds, request.end_seconds)
    if part is None:
        raise InvalidMedia(no_part(request, timeline.duration_seconds))
    return part


def no_part(request: MediaRequest, duration_seconds: float | None) -> str:
    """The message for a part of a file in which there is nothing. `duration_seconds`: of the file, if it is known."""
    start, end = request.start_seconds or 0.0, request.end_seconds
    until = "the end" if end is None else f"{end:g} s"
    lasts = "" if duration_seconds is None else f": the file lasts {duration_seconds:.3f} s"
    return f"There is nothing from {start:g} s to {until}{lasts}."


def choose_frames(
    timeline: Timeline, request: MediaRequest, limits: MediaLimits, key_frames: NDArray[np.int32] | None = None
) -> Choice:
    """The frames that answer `request`. Raises MediaTooLarge, and InvalidMedia where the video has no such part.

    `key_frames` (sorted timeline indices), if they are known: `fast` takes those of the part for frames that are spread
    over it, where they are at least half as many as the longest clip has frames.
    """
    check_duration(timeline.duration_seconds, limits)
    part = part_of(timeline, request)
    longest = max(spec.clip_length for spec in request.frames)
    fast = None
    if request.sampling == "fast" and key_frames is not None and longest:
        inside = key_frames[(key_frames >= part.first) & (key_frames <= part.last)]
        fast = inside if 2 * len(inside) >= longest else None
    return Choice(
        picks=[pick_frames(timeline, part, spec, fast) for spec in request.frames],
        sampling="exact" if fast is None else "fast",
        first_seconds=float(int(timeline.times[0]) * timeline.time_base),
        asked_seconds=part.end_seconds - part.start_seconds,
    )


def pick_frames(timeline: Timeline, part: Part, spec: FrameSpec, key_frames: NDArray[np.int32] | None = None) -> Pick:
    """The frames of `part` that answer `spec`, and the moments they answer.

    With `key_frames` (sorted timeline indices) only those are taken for frames that are spread over the part.
    """
    times, origin = timeline.times, int(timeline.times[0])
    if spec.clip_length and spec.rate:
        return _pick_last(timeline, part, spec)
    if spec.clip_length:
        first, last = int(times[part.first]), int(times[part.last])
        first_seconds, last_seconds = (float((ticks - origin) * timeline.time_base) for ticks in (first, last))
        choice = np.arange(part.first, part.last + 1) if key_frames is None else key_frames
        indices = choice[spread(first, last, spec.clip_length, times[choice])].astype(np.int64)
        return Pick(indices, np.linspace(first_seconds, last_seconds, spec.clip_length))
    count = moments(part.start_seconds, part.end_seconds, spec.rate)
    start, step = Fraction(part.start_seconds), 1 / Fraction(spec.rate)
    indices = frames_at(times, timeline.time_base, start, step, count)
    return Pick(np.minimum(indices, part.last), part.start_seconds + np.arange(count) / spec.rate)


def _pick_last(timeline: Timeline, part: Part, spec: FrameSpec) -> Pick:
    """`clip_length` frames, 1/rate apart, of which the last is on display at `last_seconds`."""
    times, time_base, count = timeline.times, timeline.time_base, spec.clip_length
    last_seconds = spec.last_seconds
    if last_seconds is None:
        last_seconds = float((int(times[part.last]) - int(times[0])) * time_base)
    elif last_seconds > timeline.duration_seconds:
        raise InvalidMedia(
            f"There is nothing at {last_seconds:g} s: the video lasts {timeline.duration_seconds:.3f} s."
        )
    step = 1 / Fraction(spec.rate)
    indices = frames_at(times, time_base, Fraction(last_seconds) - (count - 1) * step, step, count)
    return Pick(indices, np.maximum(last_seconds - np.arange(count - 1, -1, -1) / spec.rate, 0.0))
