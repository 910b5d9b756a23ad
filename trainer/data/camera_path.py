"""How a virtual camera moves: eased pans, tilts, zooms and rolls, held by hand, jerked."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.chance import log_uniform

FINE_RATE = 60.0
"""Positions per second of a path; frames are looked up between them."""


@dataclass(frozen=True, slots=True)
class PathStyle:
    """Ranges from which paths are drawn; speeds are log-uniform."""

    pan: tuple[float, float] = (0.02, 0.6)
    """Picture widths per second; picture heights per second for tilts."""
    zoom: tuple[float, float] = (0.03, 0.5)
    """e-folds of magnification per second: 0.5 is 65 % larger after a second."""
    roll: tuple[float, float] = (0.03, 0.6)
    """Radians per second."""
    part_seconds: tuple[float, float] = (0.8, 3.5)
    """How long a camera keeps moving in the same way."""
    easing_seconds: tuple[float, float] = (0.1, 0.6)
    """How long it takes to change from one way of moving to the next."""
    still_share: float = 0.4
    """Of the parts: no intended motion."""
    two_share: float = 0.2
    """Of the parts: two motions at once, such as a pan with a zoom."""
    held_share: float = 0.5
    """Of the paths: held by hand, with too little motion to be called a shake."""
    shake_share: float = 0.15
    """Of the paths: shaken, all of the way or part of it."""
    held: tuple[float, float] = (0.005, 0.06)
    """Root mean square of the unwanted speed, picture widths per second."""
    shake: tuple[float, float] = (0.13, 0.45)
    jerk_share: float = 0.1
    """Of the paths: whipped aside once, or jerked away and back."""
    jerk: tuple[float, float] = (0.6, 3.0)
    """Picture widths per second, at its fastest; log-uniform."""
    jerk_seconds: tuple[float, float] = (0.08, 0.6)
    """One way; log-uniform."""


def draw_path(seconds: float, style: PathStyle, generator: np.random.Generator) -> NDArray[np.float64]:
    """(N, 4) at FINE_RATE: how far the view has moved, in the form that `scene_labels.describe_motion` takes."""
    num_positions = int(np.ceil(seconds * FINE_RATE)) + 2
    speeds = _wanted_speeds(num_positions, style, generator)
    kind = generator.random()
    if kind < style.shake_share:
        amount = np.full(num_positions, generator.uniform(*style.shake))
        if generator.random() < 0.5:  # begins or ends within the path
            bounds = np.sort(generator.uniform(0, num_positions, 2))
            amount[: int(bounds[0])] = amount[int(bounds[1]) :] = 0.0
        speeds[:, :2] += amount[:, None] * _unrest(num_positions, (1.5, 5.0), generator)
    elif kind < style.shake_share + style.held_share:
        held = generator.uniform(*style.held)
        speeds[:, :2] += held * _unrest(num_positions, (0.5, 4.0), generator)
        speeds[:, 3] += 0.2 * held * _unrest(num_positions, (0.5, 3.0), generator)[:, 0]
    if style.jerk_share > 0 and generator.random() < style.jerk_share:
        speeds[:, :2] += _jerk(num_positions, style, generator)
    return np.cumsum(speeds, axis=0) / FINE_RATE


def look_up(path: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 4): the positions of a path (N, 4) at `seconds` (T,)."""
    places = seconds * FINE_RATE
    known = np.arange(len(path))
    return np.stack([np.interp(places, known, path[:, axis]) for axis in range(path.shape[1])], axis=1)


def _wanted_speeds(num_positions: int, style: PathStyle, generator: np.random.Generator) -> NDArray[np.float64]:
    """(N, 4) per second: constant within each part, eased from one part to the next."""
    speeds = np.zeros((num_positions, 4))
    ranges = (style.pan, style.pan, style.zoom, style.roll)
    start = 0
    while start < num_positions:
        end = start + max(1, round(generator.uniform(*style.part_seconds) * FINE_RATE))
        kind = generator.random()
        num_motions = 0 if kind < style.still_share else 2 if kind > 1 - style.two_share else 1
        for axis in generator.choice(4, num_motions, replace=False, p=(0.35, 0.25, 0.25, 0.15)):
            speeds[start:end, axis] = generator.choice((-1.0, 1.0)) * log_uniform(ranges[axis], 1, generator)[0]
        start = end
    width = max(1, round(generator.uniform(*style.easing_seconds) * FINE_RATE))
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.pad(speeds, ((width // 2, width - 1 - width // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(padded[:, axis], kernel / kernel.sum(), "valid") for axis in range(4)], axis=1)


def _jerk(num_positions: int, style: PathStyle, generator: np.random.Generator) -> NDArray[np.float64]:
    """(N, 2) per second: a burst of speed somewhere, more often sideways than up or down."""
    length = max(2, round(log_uniform(style.jerk_seconds, 1, generator)[0] * FINE_RATE))
    burst = log_uniform(style.jerk, 1, generator)[0] * np.hanning(length + 2)[1:-1]
    if generator.random() < 0.5:
        burst = np.concatenate((burst, -burst))
    angle = generator.choice((0.0, np.pi)) + generator.normal(0.0, 0.5)
    speeds = np.zeros((num_positions + len(burst), 2))
    start = int(generator.integers(num_positions))
    speeds[start : start + len(burst)] = burst[:, None] * (np.cos(angle), np.sin(angle))
    return speeds[:num_positions]


def _unrest(num_positions: int, band: tuple[float, float], generator: np.random.Generator) -> NDArray[np.float64]:
    """(N, 2): noise within a band of frequencies in Hz; its root mean square, over both directions, is 1."""
    # Longer than asked for: a band below 4 Hz takes seconds to show its amplitude.
    length = max(num_positions, round(4 * FINE_RATE))
    spectrum = np.fft.rfft(generator.standard_normal((length, 2)), axis=0)
    frequencies = np.fft.rfftfreq(length, 1 / FINE_RATE)
    spectrum[(frequencies < band[0]) | (frequencies > band[1])] = 0.0
    noise = np.fft.irfft(spectrum, n=length, axis=0)
    return np.asarray(noise[:num_positions] / np.sqrt((noise**2).sum(axis=1).mean()))
