"""Frames of videos made fit to be filmed by a virtual camera."""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from trainer.data.decode import CacheSpec
from trainer.data.listing import Split
from trainer.data.prepare import DataSet

BAR_LEVELS = 24
"""Brightest level of a black bar after compression."""
LEAST_SHARE = 0.5
"""Of the width or height: darker than that all around, it is a dark picture and no bar."""


def still_spec(width: int, height: int, per_video: int) -> CacheSpec:
    """What is kept of each video that stills are taken of: `per_video` frames, spread over it."""
    return CacheSpec(width, height, "crop", per_video, frames_width=0, frames_height=0, frames_rate=0.0)


def stills_of(data: DataSet, split: Split) -> list[NDArray[np.uint8]]:
    """The stills (h, w, 3) of all videos of a split."""
    return [still for video in data.opened(split) for still in without_bars(video.clip)]


def without_bars(frames: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Frames (h, w, 3) with black bars cut off, at their old size: a bar that moves with the picture is no bar."""
    return [trim(frame[None])[0] for frame in frames]


def trim(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (N, h, w, 3) of one video, with the black bars that all of them have cut off, at their old size."""
    height, width = frames.shape[1:3]
    brightest = frames.max(axis=(0, 3))
    # Nine tenths: a logo in a bar does not make it picture.
    (top, bottom), (left, right) = (_extent(np.quantile(brightest, 0.9, axis=axis) > BAR_LEVELS) for axis in (1, 0))
    if (top, bottom, left, right) == (0, height, 0, width):
        return frames
    if bottom - top < LEAST_SHARE * height or right - left < LEAST_SHARE * width:
        return frames
    pictures = torch.from_numpy(frames[:, top:bottom, left:right].astype(np.float32)).permute(0, 3, 1, 2)
    stretched = F.interpolate(pictures, (height, width), mode="bilinear", antialias=True)
    trimmed: NDArray[np.uint8] = stretched.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()
    return trimmed


def _extent(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """[first, last + 1) of what is True; all of it where nothing is."""
    places = np.flatnonzero(flags)
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, len(flags))
