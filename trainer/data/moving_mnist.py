"""Moving MNIST: two handwritten digits that drift through a black square and bounce off its walls.

Srivastava et al. 2015, arXiv 1502.04681, drawn as the benchmark OpenSTL does (Tan et al. 2023, arXiv 2306.11249).
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 64  # pixels
DIGIT_SIDE = 28
SPEED = 0.1  # per frame, as a share of the range that a digit's corner has
NUM_DIGITS = 2


def read_digits(path: Path) -> NDArray[np.uint8]:
    """(N, 28, 28) from a gzipped IDX file, http://yann.lecun.com/exdb/mnist. Raises ValueError for another file."""
    with gzip.open(path) as file:
        content = file.read()
    magic, count, height, width = struct.unpack(">4I", content[:16])
    if (magic, height, width) != (2051, DIGIT_SIDE, DIGIT_SIDE):
        raise ValueError(f"{path.name} has no digits of {DIGIT_SIDE}x{DIGIT_SIDE} pixels")
    return np.frombuffer(content, np.uint8, offset=16).reshape(count, height, width)


def read_sequences(path: Path) -> NDArray[np.uint8]:
    """(N, T, 64, 64, 3), grey, from `sequences` (N, T, 64, 64) of an .npz file. Raises ValueError for another file."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if "sequences" not in arrays or arrays["sequences"].shape[2:] != (SIDE, SIDE):
            raise ValueError(f"{path.name} has no sequences of {SIDE}x{SIDE} pixels")
        return np.repeat(arrays["sequences"][..., None], 3, axis=4)


def draw_sequence(digits: NDArray[np.uint8], num_frames: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """(num_frames, 64, 64): two random digits, each on its own path; where they overlap, the brighter one shows."""
    frames = np.zeros((num_frames, SIDE, SIDE), np.uint8)
    for _ in range(NUM_DIGITS):
        digit = digits[int(generator.integers(len(digits)))]
        for frame, (top, left) in zip(frames, bounce(num_frames, generator), strict=True):
            place = frame[top : top + DIGIT_SIDE, left : left + DIGIT_SIDE]
            np.maximum(place, digit, out=place)
    return frames


def bounce(num_frames: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """(num_frames, 2) top and left of a digit that moves straight at a constant speed and bounces off the walls.

    A path begins one step away from a random place, in a random direction, both drawn evenly.
    """
    x, y = generator.random(2)
    angle = generator.random() * 2 * np.pi
    velocity_y, velocity_x = np.sin(angle), np.cos(angle)
    corners = np.empty((num_frames, 2))
    for corner in corners:
        y += velocity_y * SPEED
        x += velocity_x * SPEED
        if not 0 < x < 1:
            x, velocity_x = float(np.clip(x, 0, 1)), -velocity_x
        if not 0 < y < 1:
            y, velocity_y = float(np.clip(y, 0, 1)), -velocity_y
        corner[:] = y, x
    return (corners * (SIDE - DIGIT_SIDE)).astype(np.int32)
