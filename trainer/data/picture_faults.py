"""Spoils pictures as the real world does: exposure, sensor noise, bars, captions, compression."""

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.chance import log_uniform

GRAIN_PICTURES = 7


@dataclass(frozen=True, slots=True)
class FaultStyle:
    """Ranges from which faults are drawn."""

    gain: tuple[float, float] = (0.5, 1.25)
    """Of a shot's light; log-uniform."""
    dark_share: float = 0.12
    """Of the shots: filmed in the dark."""
    dark_gain: tuple[float, float] = (0.08, 0.4)
    drift_share: float = 0.3
    """Of the shots: exposure changes slowly, by up to a third."""
    noise: tuple[float, float] = (0.3, 6.0)
    """Standard deviation in grey levels, drawn anew in each frame; log-uniform."""
    clean_share: float = 0.3
    """Of the scenes: no noise at all, as in drawn pictures and in strongly compressed video."""
    bars_share: float = 0.2
    """Black bars above and below, or left and right."""
    caption_share: float = 0.15
    """A plate that stays in place whatever the camera does."""
    grey_share: float = 0.1
    """No colour."""
    compressed_share: float = 0.6
    crf: tuple[int, int] = (18, 35)
    """H.264's constant rate factor: 18 is hardly visible, 35 clearly."""


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one scene of T steps."""

    gain: NDArray[np.float64]
    """(T, num_shots)"""
    noise: float
    """Standard deviation, of pictures in [0, 1]."""
    seed: int
    """Of the noise and of the caption's pattern."""
    bars: tuple[float, float]
    """Shares of the height and of the width that each bar covers."""
    caption: tuple[float, float, float, float, float] | None
    """Left, top, right, bottom as shares, and brightness."""
    grey: bool
    crf: int | None
    key_frame_distance: int

    def spoil(self, pictures: Tensor) -> Tensor:
        """pictures (T, 3, H, W) in [0, 1] -> the same, not clamped."""
        num_steps, _, height, width = pictures.shape
        if self.grey:
            pictures = pictures.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1).clone()
        chance = torch.Generator().manual_seed(self.seed)
        pictures = pictures + self.noise * _grain(num_steps, height, width, chance)
        if self.caption:
            left, top, right, bottom, brightness = self.caption
            rows, columns = slice(int(top * height), int(bottom * height)), slice(int(left * width), int(right * width))
            plate = (torch.rand(1, 1, height, width, generator=chance) > 0.6).float() * brightness
            pictures[:, :, rows, columns] = plate[:, :, rows, columns]
        down, across = int(self.bars[0] * height), int(self.bars[1] * width)
        pictures[:, :, :down] = pictures[:, :, height - down :] = 0.0
        pictures[:, :, :, :across] = pictures[:, :, :, width - across :] = 0.0
        return pictures


def draw_faults(num_steps: int, num_shots: int, style: FaultStyle, generator: np.random.Generator) -> Faults:
    gain = log_uniform(style.gain, num_shots, generator)
    dark = generator.random(num_shots) < style.dark_share
    gain = np.where(dark, log_uniform(style.dark_gain, num_shots, generator), gain)
    drift = (generator.random(num_shots) < style.drift_share) * generator.uniform(-0.3, 0.3, num_shots)
    times = np.linspace(-1, 1, num_steps)[:, None]
    bars = (0.0, 0.0)
    if generator.random() < style.bars_share:
        thick = generator.uniform(0.05, 0.16)
        bars = (thick, 0.0) if generator.random() < 0.6 else (0.0, thick)
    caption = None
    if generator.random() < style.caption_share:
        left, top = generator.uniform(0, 0.6), generator.choice((0.03, 0.8)) + generator.uniform(0, 0.05)
        caption = (left, top, left + generator.uniform(0.1, 0.4), top + 0.1, generator.uniform(0.3, 1.0))
    clean = style.clean_share > 0 and generator.random() < style.clean_share
    noise = 0.0 if clean else float(log_uniform(style.noise, 1, generator)[0])
    return Faults(
        gain=gain * np.exp(drift * np.sin(times * generator.uniform(1, 4, num_shots))),
        noise=noise / 255.0,
        seed=int(generator.integers(2**31)),
        bars=bars,
        caption=caption,
        grey=bool(generator.random() < style.grey_share),
        crf=int(generator.integers(style.crf[0], style.crf[1] + 1))
        if generator.random() < style.compressed_share
        else None,
        key_frame_distance=int(generator.choice((12, 30, 60, 250))),
    )


def _grain(num_steps: int, height: int, width: int, chance: torch.Generator) -> Tensor:
    """(T, 3, H, W) of deviation 1: a few noise pictures, shifted anew each time. Drawing T costs five times as much."""
    drawn = torch.randn(GRAIN_PICTURES, 3, height, width, generator=chance)
    shifts = torch.stack([torch.randint(size, (num_steps,), generator=chance) for size in (height, width)], dim=1)
    return torch.stack(
        [drawn[step % GRAIN_PICTURES].roll(shift, dims=(1, 2)) for step, shift in enumerate(shifts.tolist())]
    )


def compress(frames: NDArray[np.uint8], rate: float, crf: int, key_frame_distance: int) -> NDArray[np.uint8]:
    """(T, H, W, 3) -> the same after H.264."""
    file = io.BytesIO()
    options = {"preset": "superfast", "crf": str(crf), "threads": "1", "g": str(key_frame_distance)}
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    to_rgb = VideoReformatter()  # one for all frames: setting one up takes longer than converting such a small frame
    with av.open(file, "r") as decoder:
        decoded = (to_rgb.reformat(frame, format="rgb24") for frame in decoder.decode(video=0))
        return np.stack([frame.to_ndarray().astype(np.uint8) for frame in decoded])
