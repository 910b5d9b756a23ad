"""Forecasts to look at: what was observed, what was forecast, and what came."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OBSERVED_SHOWN = (-7, -4, -1)
STEPS_SHOWN = (1, 3, 5, 10)
MARGIN = 2  # pixels between pictures


def draw_strips(clips: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]], num_observed: int, path: Path) -> None:
    """Writes a PNG with two rows for each clip: the frames that came, and below them the forecast ones.

    A clip is its frames (T,H,W,3), observed ++ to come, and the forecast (horizon,H,W,3) in [0,1]. All have one size.
    """
    strips = [_strip(frames, forecast, num_observed) for frames, forecast in clips]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(strips)).save(path, optimize=True)


def _strip(frames: NDArray[np.uint8], forecast: NDArray[np.float32], num_observed: int) -> NDArray[np.uint8]:
    predicted = np.rint(forecast * 255.0).astype(np.uint8)
    steps = [step for step in STEPS_SHOWN if step <= len(predicted)]
    seen = [frames[num_observed + place] for place in OBSERVED_SHOWN]
    truth = [*seen, *(frames[num_observed + step - 1] for step in steps)]
    answer = [np.full_like(frame, 255) for frame in seen] + [predicted[step - 1] for step in steps]
    return np.concatenate((_row(truth), _row(answer)))


def _row(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    edges = ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    return np.concatenate([np.pad(picture, edges, constant_values=255) for picture in pictures], axis=1)
