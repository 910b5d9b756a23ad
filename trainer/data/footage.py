"""Videos whose camera stands still. A virtual one over them sees people walk and water flow, and knows how it moves."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from trainer.data.shots import FOOTAGE_RATE, Footage
from trainer.data.stills import trim
from trainer.networks.classifier import luma
from trainer.networks.measured_steps import WholeMotion
from trainer.networks.picture_motion import LucasKanade

WIDTH, HEIGHT = 128, 96
"""Pixels that motion is measured in."""
LAG = 6
"""Frames between the two that are compared: slow motion shows in half a second."""
LEVELS = (1, 2)
"""Of Lucas and Kanade's: shifts of up to 4 and 8 pixels are seen, of a tenth of a pixel too."""
STILL = (0.015, 0.015, 0.02, 0.02)
"""Widths, heights, e-folds and radians a second: less than what the labels call certainly static."""
STILL_SHARE = 0.9
"""Of the time."""
CUT = 0.1
"""Mean difference between neighbouring frames in [0, 1]."""
SHORTEST = 12
"""Frames."""


def find_footage(frames: NDArray[np.uint8], num_frames: int) -> Footage | None:
    """Frames (N, h, w, 3) of a video at FOOTAGE_RATE -> up to `num_frames` of its middle, without bars.

    None where the camera moves, a cut is near, or there are too few.
    """
    start = max(0, (len(frames) - num_frames) // 2)
    part = frames[start : start + num_frames]
    if len(part) < SHORTEST or not _stands_still(part):
        return None
    return trim(np.ascontiguousarray(part))


def _stands_still(frames: NDArray[np.uint8]) -> bool:
    pictures = luma(torch.from_numpy(frames).permute(0, 3, 1, 2)[None].to(torch.float32) / 255.0).transpose(0, 1)
    pictures = F.interpolate(pictures, (HEIGHT, WIDTH), mode="bilinear", antialias=True)
    if float((pictures[1:] - pictures[:-1]).abs().mean(dim=(1, 2, 3)).max()) > CUT:
        return False
    kanade, whole = LucasKanade(HEIGHT, WIDTH, max(LEVELS) + 1, 6, 8), WholeMotion(6, 8, HEIGHT / WIDTH)
    flow = kanade(pictures[:-LAG], pictures[LAG:]).unflatten(1, (-1, LucasKanade.num_channels))
    for level in LEVELS:
        speed = whole(flow[:, level])[0].abs() * (2**level / WIDTH * FOOTAGE_RATE / LAG)  # (N - LAG, 4)
        if bool((torch.quantile(speed, STILL_SHARE, dim=0) > torch.tensor(STILL)).any()):
            return False
    return True
