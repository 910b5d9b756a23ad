"""Camera work and edits without learning, as a baseline: Lucas–Kanade tracks, RANSAC similarity, thresholds."""

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.scene_labels import (
    ABSENT,
    BLACK,
    CUT,
    DISSOLVE,
    FREEZE,
    FREEZE_SECONDS,
    LABELS,
    MOTIONS,
    PRESENT,
    SHAKE_ABSENT,
    SHAKE_PRESENT,
    STATIC,
    describe_speed,
    is_black,
    stretches,
)

MAX_CORNERS = 200
MIN_TRACKED = 12
"""Fewest points that a similarity is fitted to."""
RANSAC_PIXELS = 1.0
STILL_LEVELS = 0.05
"""Largest mean difference, in grey levels, between frames that count as the same."""
CUT_LEVELS, CUT_RATIO = 12.0, 3.0
"""Least mean difference at a cut: in grey levels, and as a multiple of the median over the second around it."""
FADE_LEVELS_PER_SECOND = 25.0
"""Slope of the mean, in one direction for half a second, that counts as a fade."""


def classical_answers(frames: NDArray[np.uint8], rate: float) -> NDArray[np.bool_]:
    """frames (T, H, W, 3) at `rate` -> (T, K): the labels said at each step."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    said = np.zeros((len(frames), len(LABELS)), bool)
    change = np.array([0.0] + [float(cv2.absdiff(*pair).mean()) for pair in itertools.pairwise(grey)])
    said[:, CUT] = _cuts(change, rate)
    said[:, BLACK] = is_black(frames)
    said[:, FREEZE] = _long_runs(change < STILL_LEVELS, round(FREEZE_SECONDS * rate)) & ~said[:, BLACK]
    said[:, DISSOLVE] = _fades(np.array([picture.mean() for picture in grey]), rate) & ~said[:, BLACK]
    starts = [0, *np.flatnonzero(said[:, CUT]).tolist(), len(frames)]
    for start, end in itertools.pairwise(starts):
        if end > start:
            said[start:end, : len(MOTIONS)] = _motion(grey[start:end], rate)
    return said


def similarity(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(4,): how the view moves from one grey picture to the next, as scene_labels counts travel; 0 where unknown."""
    none = np.zeros(4)
    corners = cv2.goodFeaturesToTrack(before, MAX_CORNERS, 0.01, 6)
    if corners is None or len(corners) < MIN_TRACKED:
        return none
    tracked, found, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, None, winSize=(15, 15), maxLevel=3)
    kept = found.ravel() == 1
    if kept.sum() < MIN_TRACKED:
        return none
    height, width = before.shape
    centre = np.array([width / 2, height / 2], np.float32)
    first, second = corners[kept].reshape(-1, 2) - centre, tracked[kept].reshape(-1, 2) - centre
    matrix, inliers = cv2.estimateAffinePartial2D(first, second, method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PIXELS)
    if matrix is None or inliers.sum() < MIN_TRACKED:
        return none
    scale, angle = np.hypot(matrix[0, 0], matrix[1, 0]), np.arctan2(matrix[1, 0], matrix[0, 0])
    # The picture moves against the view.
    return np.array([-matrix[0, 2] / width, -matrix[1, 2] / height, np.log(scale), -angle])


def _motion(grey: list[NDArray[np.uint8]], rate: float) -> NDArray[np.bool_]:
    """(T, len(MOTIONS)) of one shot, by the definitions, with limits halfway between present and absent."""
    said = np.zeros((len(grey), len(MOTIONS)), bool)
    said[:, STATIC] = True
    if len(grey) > 1:
        steps = [np.zeros(4), *(similarity(*pair) for pair in itertools.pairwise(grey))]
        limits = np.sqrt(np.array(PRESENT) * np.array(ABSENT))
        shake = float(np.sqrt(SHAKE_PRESENT * SHAKE_ABSENT))
        said = describe_speed(np.cumsum(steps, axis=0), rate, limits, shake)
    return said


def _cuts(change: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """(T,): frames that differ much from the one before, and much more than the frames around do."""
    radius = max(1, round(rate / 2))
    cuts = np.zeros(len(change), bool)
    for step in np.flatnonzero(change > CUT_LEVELS):
        around = np.concatenate((change[max(1, step - radius) : step], change[step + 1 : step + 1 + radius]))
        cuts[step] = not len(around) or change[step] > CUT_RATIO * np.median(around)
    return cuts


def _fades(mean: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """(T,): where the mean rises or falls fast for half a second."""
    slope = np.diff(mean, prepend=mean[:1]) * rate
    least = max(2, round(rate / 2))
    rising = _long_runs(slope > FADE_LEVELS_PER_SECOND, least)
    return rising | _long_runs(slope < -FADE_LEVELS_PER_SECOND, least)


def _long_runs(flags: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """The stretches of True that last `least` steps or more."""
    kept = np.zeros_like(flags)
    for start, end in stretches(flags):
        kept[start:end] = end - start >= least
    return kept
