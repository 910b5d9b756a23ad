"""Which frames of a video answer which moments. Pure functions on time stamps.

Time stamps are integers in ticks of the stream's time base, in display order and never falling, so that ties are exact.
"""

from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ticks = NDArray[np.int64]

ROUNDING_SECONDS = Fraction(1, 2000)
"""Matroska and FLV round time stamps to 1 ms: a frame that is late by half of that is on time."""


class Part(NamedTuple):
    """The part of a video that was asked for."""

    first: int
    """Index of the frame on display at its start."""
    last: int
    """Index of the last frame displayed before its end."""
    start_seconds: float
    """From the first displayed frame of the video."""
    end_seconds: float
    """Exclusive."""


def cut_part(
    times: Ticks, end_ticks: int, time_base: Fraction, start_seconds: float | None, end_seconds: float | None
) -> Part | None:
    """The frames on display in [start_seconds, end_seconds); None where the video is over before that.

    `end_ticks` is when the last frame leaves the display.
    """
    first_ticks = int(times[0])
    duration = float((end_ticks - first_ticks) * time_base)
    start = max(0.0, start_seconds or 0.0)
    end = duration if end_seconds is None else min(end_seconds, duration)
    if (start > 0 and start >= duration) or (end_seconds is not None and end <= start):
        return None
    first = int(frames_at(times, time_base, Fraction(start), Fraction(0), 1)[0])
    last = len(times) - 1
    if end < duration:
        before = ceil((Fraction(end) - rounding(time_base)) / time_base)
        last = int(np.searchsorted(times, first_ticks + before, "left")) - 1
    return Part(first, max(first, last), start, max(start, end))


def frames_at(times: Ticks, time_base: Fraction, start: Fraction, step: Fraction, count: int) -> NDArray[np.int64]:
    """(count,) indices of the frames on display `start + k * step` seconds after the first one, k from 0."""
    first, each = (start + rounding(time_base)) / time_base, step / time_base
    scale = first.denominator * each.denominator
    first_scaled, each_scaled = int(first * scale), int(each * scale)
    ticks = np.fromiter(((first_scaled + k * each_scaled) // scale for k in range(count)), np.int64, count)
    found = np.searchsorted(times, ticks + times[0], "right") - 1
    indices: NDArray[np.int64] = np.maximum(found, 0)
    return indices


def rounding(time_base: Fraction) -> Fraction:
    """How late a frame may be, in seconds, and still count as on time."""
    return min(ROUNDING_SECONDS, time_base / 2)


def spread(first: int, last: int, clip_length: int, times: Ticks) -> NDArray[np.int64]:
    """(clip_length,) indices of the `times` nearest to as many moments spread evenly from `first` to `last` (ticks).

    Both ends are included; at a tie the earlier time is taken; a single moment is `first`.

    0, 9, 4, [0 1 2 … 9] -> [0, 3, 6, 9]
    0, 0, 3, [0]         -> [0, 0, 0]   (one frame: it repeats)
    0, 1, 3, [0 1]       -> [0, 0, 1]   (0.5 is a tie)
    """
    gaps = max(1, clip_length - 1)
    places = (divmod((last - first) * position, gaps) for position in range(clip_length))
    return np.array([_nearest(times, first + whole, part, gaps) for whole, part in places], np.int64)


def _nearest(times: Ticks, whole: int, part: int, gaps: int) -> int:
    """Index of the time nearest to `whole + part / gaps` ticks."""
    after = int(np.searchsorted(times, whole, "right"))
    if after == 0:
        return 0
    since = (whole - int(times[after - 1])) * gaps + part
    if after < len(times) and (int(times[after]) - whole) * gaps - part < since:
        return after
    return int(np.searchsorted(times, times[after - 1], "left"))


def moments(start_seconds: float, end_seconds: float, rate: float) -> int:
    """How many moments start + k / rate lie in [start_seconds, end_seconds): at least one."""
    span = (Fraction(end_seconds) - Fraction(start_seconds) - ROUNDING_SECONDS) * Fraction(rate)
    return max(1, -(-span.numerator // span.denominator))
