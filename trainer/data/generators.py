"""Draws videos: nothing to download, no licence, and the right answer is known."""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

MOTION_LABELS = ("down", "left", "right", "still", "up")
DIRECTIONS = {"down": (1, 0), "left": (0, -1), "right": (0, 1), "still": (0, 0), "up": (-1, 0)}
"""Rows and columns per unit of motion."""
FRAME_RATES = (24, 25, 30)
DRAWN = ".drawn"
"""The file in a folder of drawn videos that says how they were drawn."""
DARK, BRIGHT = (30, 100), (140, 225)
"""Levels of backgrounds and of shapes. With any level for either, brightening would mean the front of one shape and the
back of another. With these levels, a network of 0.1M parameters reached 100 % in 300 steps; without them it had
learnt nothing in 370."""


@dataclass(frozen=True, slots=True)
class MotionStyle:
    """Sizes and speeds of generated motion."""

    width: int = 160
    """Pixels; even, as H.264's 4:2:0 requires."""
    height: int = 120
    min_seconds: float = 2.0
    max_seconds: float = 3.0
    min_speed: float = 0.2
    """Picture heights per second: at 64x48 and 8 frames per second, steps of 1.2 to 3.3 pixels."""
    max_speed: float = 0.55


def write_motion(folder: Path, count: int, seed: int, style: MotionStyle = MotionStyle()) -> Iterator[Path]:
    """Writes `count` videos of each label to `folder/<label>/<label>-<index>.mp4`, and yields each once it is there.

    A textured shape moves over a textured background, beside others that stand still, and comes back in on the opposite
    side. Where it is does not tell where it goes, so no single frame gives the label away. The same seed draws the same
    pixels, and a larger count only adds files. Raises FileExistsError for a folder of anything else.
    """
    wanted = {
        folder / label / f"{label}-{index:05}.mp4": (label, (seed, place, index))
        for index, (place, label) in itertools.product(range(count), enumerate(MOTION_LABELS))
    }
    _claim(folder, f"motion, seed {seed}, {style}\n", wanted.keys())
    for path, (label, drawn) in wanted.items():
        if not path.exists():
            generator = np.random.default_rng(drawn)
            frame_rate = int(generator.choice(FRAME_RATES))
            path.parent.mkdir(exist_ok=True)
            partial = path.with_name(f".{path.name}")  # if drawing is stopped, no incomplete video is left
            write_video(partial, draw_motion(label, frame_rate, style, generator), frame_rate)
            partial.replace(path)
        yield path


def _claim(folder: Path, drawn: str, wanted: Collection[Path]) -> None:
    """Marks the folder as one of drawn videos. Raises FileExistsError if it holds more, or anything else."""
    mark = folder / DRAWN
    if not mark.exists() and folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} already exists and was not made by `generate`: choose another --output")
    if mark.exists() and mark.read_text(encoding="utf-8") != drawn:
        raise FileExistsError(f"{folder} was drawn with other settings, see {mark}: choose another --output")
    if more := [path for path in folder.glob("*/[!.]*") if path not in wanted]:
        raise FileExistsError(f"{folder} holds {len(more)} files more than were asked for: choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(drawn, encoding="utf-8")


def draw_motion(
    label: str, frame_rate: int, style: MotionStyle, generator: np.random.Generator
) -> Iterator[NDArray[np.uint8]]:
    """Frames (H, W, 3) of one video."""
    height, width = style.height, style.width
    num_frames = round(generator.uniform(style.min_seconds, style.max_seconds) * frame_rate)
    step = generator.uniform(style.min_speed, style.max_speed) * height / frame_rate  # pixels per frame
    background = _texture(height, width, DARK, generator)
    for _ in range(int(generator.integers(0, 3))):
        mask, texture = _shape(height, width, generator), _texture(height, width, BRIGHT, generator)
        background = np.where(mask[..., None], texture, background)
    mask, texture = _shape(height, width, generator), _texture(height, width, BRIGHT, generator)
    rows, columns = DIRECTIONS[label]
    for index in range(num_frames):
        offset = (round(rows * step * index), round(columns * step * index))
        moved_mask = np.roll(mask, offset, axis=(0, 1))
        moved_texture = np.roll(texture, offset, axis=(0, 1))
        yield np.where(moved_mask[..., None], moved_texture, background).astype(np.uint8)


def write_video(path: Path, frames: Iterator[NDArray[np.uint8]], frame_rate: int) -> None:
    """Encodes (H, W, 3) RGB frames as H.264 in MP4. With more than one thread, machines would write different bytes."""
    first = next(frames)
    options = {"preset": "veryfast", "crf": "23", "threads": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frame_rate), options=options)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in itertools.chain((first,), frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _texture(height: int, width: int, levels: tuple[int, int], generator: np.random.Generator) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 255]: a random colour with random blobs in its shades, which wrap around."""
    colour = generator.uniform(*levels, 3)
    contrast = generator.uniform(8, 25)
    scale = float(generator.choice([0.04, 0.08, 0.16]))  # cycles per pixel that are kept
    noise = np.fft.rfft2(generator.standard_normal((height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    blobs = np.fft.irfft2(noise * np.exp(-((frequency / scale) ** 2)), s=(height, width))
    blobs *= contrast / blobs.std()
    tint = generator.uniform(0.6, 1.4, 3)
    return np.clip(colour + blobs[..., None] * tint, 0, 255).astype(np.float32)


def _shape(height: int, width: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """(H, W): a disc, rectangle, triangle or ring anywhere, which wraps around."""
    radius = generator.uniform(0.15, 0.28) * height
    kind = generator.choice(["disc", "rectangle", "triangle", "ring"])
    y = np.arange(height)[:, None] - height / 2
    x = np.arange(width)[None] - width / 2
    if kind == "disc":
        mask = np.hypot(y, x) < radius
    elif kind == "ring":
        mask = (np.hypot(y, x) < radius) & (np.hypot(y, x) > 0.5 * radius)
    elif kind == "rectangle":
        mask = (np.abs(y) < radius * generator.uniform(0.6, 1.0)) & (np.abs(x) < radius * generator.uniform(0.6, 1.0))
    else:
        mask = (np.abs(y) < radius) & (np.abs(x) < (y + radius) / 2)
    return np.roll(mask, tuple(generator.integers(0, (height, width))), axis=(0, 1))
