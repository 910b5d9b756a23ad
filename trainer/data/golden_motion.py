"""Drawn videos for checking a published model, so that it passes on nobody's frames."""

import numpy as np
from numpy.typing import NDArray

from trainer.data.generators import MotionStyle, draw_motion

SEED = 0
WAYS = ("right", "up")


def draw_clips(num_frames: int, rate: int, style: MotionStyle) -> NDArray[np.uint8]:
    """Two clips (2, num_frames, H, W, 3) of something that moves, one to the right and one upwards."""
    clips = []
    for index, way in enumerate(WAYS):
        video = draw_motion(way, rate, style, np.random.default_rng((SEED, index)))
        clips.append(np.stack([next(video) for _ in range(num_frames)]))
    return np.stack(clips)
