"""Decoded frames to RGB at a consumer's size: one swscale pass, the same for the trainer and the service."""

from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from app.errors import InvalidMedia
from app.media.geometry import Orientation, display_size, place, read_orientation, turned
from app.media.request import FrameSpec

FLAGS = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""Averages over what it shrinks. The last two give the same pixels on every CPU."""
_MAX_SHRINK = 64
"""swscale refuses (EINVAL) to shrink one side to an 85th or less and enlarge the other much, as from 4096 x 2 pixels to
33 x 67: beyond this factor a side is shrunk in two steps."""


def frame_orientation(frame: VideoFrame) -> Orientation:
    """How the file wants this frame turned."""
    try:
        # Not frame.side_data: it and the frame refer to each other, which keeps 3 MB of 1080p until a collection.
        matrix = SideDataContainer(frame).get(Type.DISPLAYMATRIX)  # type: ignore[call-arg]  # as it is in PyAV 18.1
    except ValueError:  # PyAV lists no side data where one is of a type it does not know, as in 3D video
        return turned(frame.rotation)
    return read_orientation(None if matrix is None else bytes(matrix))


def displayed_size(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) of the frame as displayed."""
    return display_size(frame.width, frame.height, aspect, frame_orientation(frame))


class FrameScaler:
    """Brings frames to the size of one FrameSpec. `size` is set by the first frame and stays, whatever follows."""

    def __init__(self, spec: FrameSpec, first: VideoFrame, aspect: Fraction | None) -> None:
        self._spec = spec
        self._aspect = aspect
        self._reformatter = VideoReformatter()
        self._shrinker = VideoReformatter()
        self.size = place(displayed_size(first, aspect), spec).size
        """(width, height) of every frame given back."""

    def scale(self, frame: VideoFrame, out: NDArray[np.uint8]) -> None:
        """Fill `out` (H, W, 3) with the frame in RGB."""
        orientation = frame_orientation(frame)
        displayed = display_size(frame.width, frame.height, self._aspect, orientation)
        width, height = self._scaled_size(displayed)
        stored = (height, width) if orientation.transpose else (width, height)
        if frame.width > _MAX_SHRINK * stored[0] or frame.height > _MAX_SHRINK * stored[1]:
            between = (min(frame.width, _MAX_SHRINK * stored[0]), min(frame.height, _MAX_SHRINK * stored[1]))
            frame = _to_rgb(self._shrinker, frame, between)
        rgb: NDArray[Any] = _to_rgb(self._reformatter, frame, stored).to_ndarray()  # (h, w, 3) as stored
        if orientation.transpose:
            rgb = rgb.transpose(1, 0, 2)
        if orientation.mirror:
            rgb = rgb[:, ::-1]
        if orientation.flip:
            rgb = rgb[::-1]
        _centre(rgb, out)

    def _scaled_size(self, displayed: tuple[int, int]) -> tuple[int, int]:
        if self._spec.width == 0 or self._spec.fit == "keep":
            return self.size
        return place(displayed, self._spec).scaled


def _to_rgb(reformatter: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    """The frame at `size` (width, height). Raises InvalidMedia for colours that there cannot be."""
    try:
        return reformatter.reformat(frame, *size, format="rgb24", interpolation=FLAGS, threads=1)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise InvalidMedia("The picture's colours are stored in a way that cannot be read.") from error


def _centre(picture: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Copy the middle of `picture` (h, w, 3) to the middle of `out` (H, W, 3); what it does not cover becomes black."""
    if picture.shape[0] < out.shape[0] or picture.shape[1] < out.shape[1]:
        out[...] = 0
    rows, columns = (min(have, want) for have, want in zip(picture.shape[:2], out.shape[:2], strict=True))
    from_top, from_left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    to_top, to_left = (out.shape[0] - rows) // 2, (out.shape[1] - columns) // 2
    out[to_top : to_top + rows, to_left : to_left + columns] = picture[
        from_top : from_top + rows, from_left : from_left + columns
    ]
