"""The clips for `make bench`: drawn, so that everybody has the same, but as hard to decode as filmed video.

For ten seconds a camera moves over rough ground, things pass in front of it, and the sensor is noisy.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FRAME_RATE = 25
SECONDS = 10
_NUM_THINGS = 6
_NOISE = 1.0  # standard deviation, of 255: a camera by day

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """How one clip is encoded."""

    name: str
    size: tuple[int, int]
    codec: str = "libx264"
    suffix: str = ".mp4"
    options: dict[str, str] = field(default_factory=dict)


SMALL, MIDDLE, LARGE = (320, 240), (1280, 720), (1920, 1080)
_HEVC = {"preset": "superfast", "x265-params": "log-level=none:pools=2:keyint=250:bframes=3"}

CLIPS = (
    # libx264's defaults: closed groups of up to 250 frames, three B-frames, of which one may be a reference.
    Clip("240p", SMALL),
    Clip("720p", MIDDLE),
    Clip("1080p", LARGE),
    Clip("240p-no-b", SMALL, options={"x264-params": "bframes=0"}),
    Clip("720p-no-b", MIDDLE, options={"x264-params": "bframes=0"}),
    Clip("1080p-no-b", LARGE, options={"x264-params": "bframes=0"}),
    Clip("720p-flat-b", MIDDLE, options={"x264-params": "b-pyramid=none"}),
    Clip("720p-second", MIDDLE, options={"x264-params": "keyint=25:min-keyint=25:scenecut=0"}),
    Clip("720p-open", MIDDLE, suffix=".mkv", options={"x264-params": "keyint=50:open-gop=1"}),
    Clip("720p-hevc", MIDDLE, codec="libx265", options=_HEVC),
    Clip("720p-vp9", MIDDLE, codec="libvpx-vp9", suffix=".webm", options={"cpu-used": "8", "deadline": "realtime"}),
)


def make_clips(folder: Path, names: list[str]) -> dict[str, Path]:
    """The files of the clips with these names; missing ones are made."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for clip in CLIPS:
        if clip.name in names:
            found[clip.name] = path = folder / f"{clip.name}{clip.suffix}"
            if not path.exists():
                unfinished = folder / f"unfinished{clip.suffix}"
                encode(clip, unfinished)
                unfinished.rename(path)
    return found


def encode(clip: Clip, path: Path, seconds: int = SECONDS) -> None:
    """Draws and writes one clip."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(clip.codec, rate=FRAME_RATE, options=clip.options)
        stream.width, stream.height = clip.size
        stream.pix_fmt = "yuv420p"
        for picture in scenes(*clip.size, count=FRAME_RATE * seconds):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def scenes(width: int, height: int, count: int, seed: int = 0) -> Iterator[Picture]:
    """`count` pictures (H, W, 3) of one shot."""
    random = np.random.default_rng(seed)
    ground = _rough(random, width * 3 // 2, height * 3 // 2)
    things = [_rough(random, width // 4, height // 3) for _ in range(_NUM_THINGS)]
    starts, speeds = random.uniform(0, 1, (_NUM_THINGS, 2)), random.uniform(-0.008, 0.008, (_NUM_THINGS, 2))
    noise = random.normal(0, _NOISE, (height + 64, width + 64, 1)).astype(np.float32)
    for number in range(count):
        top = int((0.5 + 0.5 * np.sin(number / 90)) * (len(ground) - height))
        left = int((0.5 + 0.5 * np.cos(number / 120)) * (ground.shape[1] - width))
        picture = ground[top : top + height, left : left + width].copy()
        for thing, start, speed in zip(things, starts, speeds, strict=True):
            row, column = ((start + speed * number) % 1 * (height - len(thing), width - thing.shape[1])).astype(int)
            picture[row : row + len(thing), column : column + thing.shape[1]] = thing
        row, column = random.integers(0, 64, 2)
        picture += noise[row : row + height, column : column + width]
        yield picture.clip(0, 255).astype(np.uint8)


def _rough(random: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """(H, W, 3) noise whose power falls with frequency as in pictures of nature, in [0, 255]."""
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falling = 1 / np.maximum(np.hypot(rows, columns), 1 / max(width, height))
    spectrum = np.fft.rfft2(random.normal(size=(3, height, width))) * falling
    picture = np.fft.irfft2(spectrum, (height, width)).transpose(1, 2, 0)
    low, high = np.percentile(picture, (1, 99))
    return np.clip((picture - low) / (high - low) * 255, 0, 255).astype(np.float32)
