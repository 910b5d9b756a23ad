"""Makes the videos and sounds that tests use."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np


def moving_frames(count: int, width: int = 96, height: int = 64, seed: int = 0) -> np.ndarray:
    """(N, H, W, 3) uint8: squares that move over a slowly changing ground, no two frames alike."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int32)
    colours = random.integers(60, 255, (4, 3))
    starts, speeds = random.uniform(0, 1, (4, 2)), random.uniform(-0.03, 0.03, (4, 2))
    frames = np.empty((count, height, width, 3), np.uint8)
    for number in range(count):
        ground = ((rows * 2 + columns + number * 3) % 128).astype(np.uint8)
        np.add(ground[..., None], np.array([0, 20, 40], np.uint8), out=frames[number])
        for colour, start, speed in zip(colours, starts, speeds, strict=True):
            top, left = ((start + speed * number) % 1 * (height, width)).astype(int)
            frames[number, top : top + height // 4, left : left + width // 4] = colour
    return frames


@contextmanager
def _scheduled_as_before() -> Iterator[None]:
    """SVT-AV1, where root runs it, makes the thread that opens it a real-time one: spinning in a parallel region of
    torch later, it would starve the very thread that it waits for, and never end."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


@_scheduled_as_before()
def write_video(
    path: Path,
    frames: np.ndarray,
    rate: int | Fraction,
    codec: str = "libx264",
    *,
    container: str | None = None,
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    aspect: Fraction | None = None,
    waveform: np.ndarray | None = None,
    sample_rate: int = 16_000,
    sound_codec: str = "aac",
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode `frames` (N, H, W, 3) RGB to `path`, whose suffix names the container unless `container` does.

    `pts` are in `time_base` (one per frame, else one tick of 1/rate each); `rotation` counter-clockwise in degrees;
    `aspect` of one pixel; `waveform` (N,) or (C, N) float in [-1, 1] is the sound that goes with it.
    """
    height, width = frames.shape[1:3]
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = time_base or 1 / Fraction(rate)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        sound: Any = None
        if waveform is not None:
            sound = output.add_stream(sound_codec, rate=sample_rate, layout=_layout(waveform))
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts = pts[number] if pts is not None else number
            frame.time_base = time_base or 1 / Fraction(rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound is not None and waveform is not None:
            _mux_sound(output, sound, waveform, sample_rate)
    return path


def write_sound(
    path: Path,
    waveform: np.ndarray,
    sample_rate: int,
    codec: str = "pcm_s16le",
    *,
    container: str | None = None,
    bit_rate: int | None = None,
) -> Path:
    """Encode `waveform` ((N,) or (C, N) float in [-1, 1]) to `path`."""
    with av.open(str(path), "w", format=container) as output:
        sound: Any = output.add_stream(codec, rate=sample_rate, layout=_layout(waveform))
        if bit_rate:
            sound.bit_rate = bit_rate
        _mux_sound(output, sound, waveform, sample_rate)
    return path


def sine(seconds: float, sample_rate: int, hertz: float = 440.0, volume: float = 0.5) -> np.ndarray:
    """(N,) float32."""
    return (volume * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sample_rate)) / sample_rate)).astype("f4")


def _layout(waveform: np.ndarray) -> str:
    return {1: "mono", 2: "stereo", 6: "5.1"}[len(np.atleast_2d(waveform))]


def _mux_sound(output: Any, sound: Any, waveform: np.ndarray, sample_rate: int) -> None:
    channels = np.atleast_2d(np.asarray(waveform, np.float32))
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), "fltp", _layout(channels))
    frame.sample_rate = sample_rate
    frame.pts = 0
    output.mux(sound.encode(frame))
    output.mux(sound.encode())
