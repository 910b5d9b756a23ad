"""What `camera` can say about a moment, and from what speeds on it holds: docs/camera.md in numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOTIONS = (
    "pan-left", "pan-right", "tilt-up", "tilt-down", "zoom-in", "zoom-out", "roll", "shake", "static"
)  # fmt: skip
EDITS = ("cut", "dissolve", "freeze", "black")
LABELS = MOTIONS + EDITS
STATIC = MOTIONS.index("static")
CUT, DISSOLVE, FREEZE, BLACK = (LABELS.index(name) for name in EDITS)

WINDOW_SECONDS = 0.5
"""Speeds are means over this time, half of it before the moment and half after, within one shot."""
PRESENT = (0.04, 0.04, 0.06, 0.07)
"""Speeds from which a label holds: picture widths and heights per second, e-folds of magnification per second,
radians per second. At the picture's edge all of them are 3 to 4 % of its width in a second."""
ABSENT = (0.02, 0.02, 0.025, 0.026)
"""Speeds up to which it does not. What lies between is not scored, since people do not agree on it either."""
SHAKE_PRESENT, SHAKE_ABSENT = 0.12, 0.06
"""Root mean square, over WINDOW_SECONDS, of how far the speed is from its own mean: picture widths per second."""
FREEZE_SECONDS = 0.5
"""Anything shorter is a low frame rate: at 5 frames per second each frame is shown for 0.2 s."""
SHORTEST_SECONDS = {"cut": 0.0, "dissolve": 0.25, "freeze": FREEZE_SECONDS, "black": 0.25}
"""Of edits on a timeline, and of edits that are counted; none for a cut, which is a moment. Nobody would call anything
shorter an edit, such as the last step of a fade before the black."""
BLACK_MEAN, BLACK_BRIGHTEST = 14.0, 40.0
"""Grey levels: of the mean, and of all but the brightest 0.5 %."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Which labels hold at each step, and for which that is certain enough to be scored."""

    holds: NDArray[np.bool_]
    """(T, K)"""
    scored: NDArray[np.bool_]
    """(T, K)"""


def describe_motion(travel: NDArray[np.float64], rate: float) -> Truth:
    """The motion labels (T, len(MOTIONS)) of one shot.

    `travel` (T, 4), a step every 1/rate seconds: how far the view has moved since the start, in picture widths to the
    right, picture heights downwards, the log of the magnification, and radians clockwise.
    """
    if len(travel) < 2:  # one step has no speed
        nothing = np.zeros((len(travel), len(MOTIONS)), bool)
        return Truth(nothing, nothing.copy())
    holds = describe_speed(travel, rate, np.array(PRESENT), SHAKE_PRESENT)
    absent = ~describe_speed(travel, rate, np.array(ABSENT), SHAKE_ABSENT)
    scored = holds | absent
    scored[:, STATIC] = ~holds[:, STATIC] | scored[:, :STATIC].all(axis=1)
    return Truth(holds, scored)


def describe_speed(
    travel: NDArray[np.float64], rate: float, limits: NDArray[np.float64], shake_limit: float
) -> NDArray[np.bool_]:
    """travel (T, 4), T > 1 -> (T, len(MOTIONS)): which speeds are at least `limits` (4,), per second."""
    speed, unrest = _speeds(travel, rate)
    fast = speed / limits
    pan, tilt, zoom, roll = fast.T
    motions = np.stack(
        (-pan >= 1, pan >= 1, -tilt >= 1, tilt >= 1, zoom >= 1, -zoom >= 1, np.abs(roll) >= 1, unrest >= shake_limit),
        axis=1,
    )  # in the order of MOTIONS
    return np.concatenate((motions, ~motions.any(axis=1, keepdims=True)), axis=1)


def mean_speed(travel: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """(T, 4): the speeds per second by which `describe_motion` judges."""
    return _speeds(travel, rate)[0] if len(travel) > 1 else np.zeros_like(travel)


def stretches(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """flags (T,) -> [start, end) of each stretch of True, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def is_black(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """pictures (T, H, W, 3) -> (T,): whether nothing can be seen, not even something small."""
    flat = pictures.reshape(len(pictures), -1)
    dark: NDArray[np.bool_] = flat.mean(axis=1) < BLACK_MEAN
    if dark.any():
        dark[dark] = np.quantile(flat[dark], 0.995, axis=1) < BLACK_BRIGHTEST
    return dark


def _speeds(travel: NDArray[np.float64], rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean speed (T, 4) over the window around each step, per second, and unrest (T,)."""
    num_steps = len(travel)
    radius = max(1, round(WINDOW_SECONDS * rate / 2))
    first = np.maximum(np.arange(num_steps) - radius, 0)
    last = np.minimum(np.arange(num_steps) + radius, num_steps - 1)
    speed = (travel[last] - travel[first]) * (rate / (last - first))[:, None]
    steps = np.diff(travel[:, :2], axis=0) * rate  # (T - 1, 2): step i leads from i to i + 1
    squares = np.concatenate((np.zeros(1), np.cumsum((steps**2).sum(axis=1))))
    mean_square = (squares[last] - squares[first]) / (last - first)
    unrest = np.sqrt(np.maximum(mean_square - (speed[:, :2] ** 2).sum(axis=1), 0.0))
    return speed, unrest
