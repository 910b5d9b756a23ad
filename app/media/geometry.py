"""How a stored picture is displayed, and how it is brought to a consumer's size. Sizes in pixels."""

import struct
from dataclasses import dataclass
from fractions import Fraction

from app.media.request import FrameSpec

_MAX_STRETCH = 8
"""A picture is never scaled to more than this many times the size asked for before it is cropped: 8190 x 2 would
become 458,640 pixels wide to cover 112 x 112. Beyond that it is squeezed."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """What is done to a stored picture before it is shown, in this order."""

    transpose: bool = False
    mirror: bool = False
    """Left and right change places."""
    flip: bool = False
    """Top and bottom change places."""


def read_orientation(display_matrix: bytes | None) -> Orientation:
    """The nearest of the eight right-angled orientations to FFmpeg's display matrix (nine int32; None: upright).

    A stored (x, y) is shown at (a x + c y, b x + d y): https://ffmpeg.org/doxygen/trunk/group__lavu__video__display.html
    """
    if display_matrix is None or len(display_matrix) < 36:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", display_matrix[:36])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transpose=True, mirror=c < 0, flip=b < 0)
    return Orientation(mirror=a < 0, flip=d < 0)


def turned(degrees: int) -> Orientation:
    """The nearest right-angled orientation that turns a picture counter-clockwise."""
    quarters = round(degrees / 90) % 4
    return Orientation(transpose=quarters % 2 == 1, mirror=quarters in (2, 3), flip=quarters in (1, 2))


def display_size(width: int, height: int, aspect: Fraction | None, orientation: Orientation) -> tuple[int, int]:
    """Width and height as displayed: pixels made square by stretching, then turned."""
    if aspect and Fraction(1, _MAX_STRETCH) <= aspect <= _MAX_STRETCH:
        if aspect > 1:
            width = round(width * aspect)
        else:
            height = round(height / aspect)
    return (height, width) if orientation.transpose else (width, height)


@dataclass(frozen=True, slots=True)
class Placement:
    """Scale the picture as displayed to `scaled`, then cut from or centre it in `size`. (width, height) each."""

    scaled: tuple[int, int]
    size: tuple[int, int]


def place(displayed: tuple[int, int], spec: FrameSpec) -> Placement:
    """How a picture of the size `displayed` fills `spec`."""
    width, height = displayed
    if spec.width == 0 or spec.fit == "keep":
        longest = spec.longest_side or max(spec.width, spec.height)
        shrink = min(Fraction(1), Fraction(longest, max(width, height))) if longest else Fraction(1)
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        return Placement(size, size)
    size = spec.width, spec.height
    if spec.fit == "stretch":
        return Placement(size, size)
    ratios = Fraction(spec.width, width), Fraction(spec.height, height)
    ratio = max(ratios) if spec.fit == "crop" else min(ratios)
    scaled = max(1, round(width * ratio)), max(1, round(height * ratio))
    if spec.fit == "crop":
        return Placement((min(scaled[0], _MAX_STRETCH * size[0]), min(scaled[1], _MAX_STRETCH * size[1])), size)
    return Placement((min(scaled[0], size[0]), min(scaled[1], size[1])), size)
