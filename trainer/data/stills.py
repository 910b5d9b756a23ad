"""Frames of videos, prepared for a virtual camera to film."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from trainer.data.decode import CacheSpec
from trainer.data.listing import Split
from trainer.data.prepare import DataSet

BAR_LEVELS = 24
"""The brightest level of a black bar after compression."""
LEAST_SHARE = 0.5
"""Of the width or height: if bars would leave less than this, it is a dark picture without bars."""


def still_spec(width: int, height: int, per_video: int) -> CacheSpec:
    """What the cache keeps of each video for its stills: `per_video` frames, spread over it."""
    return CacheSpec(width, height, "crop", per_video, frames_width=0, frames_height=0, frames_rate=0.0)


def stills_of(data: DataSet, split: Split) -> list[NDArray[np.uint8]]:
    """The stills (h, w, 3) of all videos of a split."""
    return [still for video in data.opened(split) for still in without_bars(video.clip)]


def without_bars(frames: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Frames (h, w, 3) with black bars cut off, at their old size: real bars do not move with the picture."""
    return [_trim(frame) for frame in frames]


def _trim(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    brightest = frame.max(axis=2)
    # Nine tenths: a logo in a bar does not make the bar part of the picture.
    (top, bottom), (left, right) = (_extent(np.quantile(brightest, 0.9, axis=axis) > BAR_LEVELS) for axis in (1, 0))
    if (top, bottom, left, right) == (0, height, 0, width):
        return frame
    if bottom - top < LEAST_SHARE * height or right - left < LEAST_SHARE * width:
        return frame
    picture = torch.from_numpy(frame[top:bottom, left:right].astype(np.float32)).permute(2, 0, 1)[None]
    stretched = F.interpolate(picture, (height, width), mode="bilinear", antialias=True)
    trimmed: NDArray[np.uint8] = stretched[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    return trimmed


def _extent(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """[first, last + 1) of the True flags; all of them if none is True."""
    places = np.flatnonzero(flags)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(flags))
