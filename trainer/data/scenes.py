"""Scenes that teach camera work and edits: virtual cameras over stills, cut together, with the truth of every step.

What is drawn depends only on the stills, the style and the random numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.camera_path import look_up
from trainer.data.montage import Montage, MontageStyle, draw_montage
from trainer.data.picture_faults import FaultStyle, compress, draw_faults
from trainer.data.scene_labels import (
    BLACK,
    CUT,
    DISSOLVE,
    FREEZE,
    FREEZE_SECONDS,
    LABELS,
    MOTIONS,
    WINDOW_SECONDS,
    describe_motion,
    is_black,
    mean_speed,
    stretches,
)
from trainer.data.shots import Shot, ShotStyle, Still, draw_shot, render
from trainer.data.textures import draw_texture

TEXTURE_SIZE = (192, 144)
BARELY_BLACK = (8.0, 20.0)
"""Between these mean grey levels it is not scored whether a picture is black."""
UNCHANGED = 0.1
"""Mean change in grey levels between two frames; below this, no one can tell that the picture moves."""


@dataclass(frozen=True, slots=True)
class SceneStyle:
    """Ranges from which scenes are drawn: fixed before training, and part of a model's card."""

    width: int = 128
    """Pixels."""
    height: int = 96
    rate: float = 12.0
    """Steps per second."""
    shot: ShotStyle = field(default_factory=ShotStyle)
    montage: MontageStyle = field(default_factory=MontageStyle)
    faults: FaultStyle = field(default_factory=FaultStyle)
    texture_share: float = 0.1
    """Of the stills: drawn rather than taken from videos."""


@dataclass(frozen=True, slots=True)
class Scene:
    frames: NDArray[np.uint8]
    """(T, H, W, 3)"""
    holds: NDArray[np.bool_]
    """(T, K): which of scene_labels.LABELS hold."""
    scored: NDArray[np.bool_]
    """(T, K): for which of them this is certain."""
    speed: NDArray[np.float32]
    """(T, 4): pan, tilt, zoom and roll per second, as scene_labels defines them; NaN where none can be seen."""


def draw_scene(stills: Sequence[Still], num_steps: int, style: SceneStyle, generator: np.random.Generator) -> Scene:
    """A scene of `num_steps` steps. Without stills, all of it is drawn."""
    montage = draw_montage(num_steps, style.rate, style.montage, generator)
    seconds = float(montage.moments.max()) + 1.0
    shots = [
        draw_shot(with_textures(stills, style.texture_share, generator), seconds, style.shot, generator)
        for _ in range(int(montage.shots.max()) + 1)
    ]
    return film(shots, montage, style, generator)


def film(shots: Sequence[Shot], montage: Montage, style: SceneStyle, generator: np.random.Generator) -> Scene:
    """The scene that `shots` make when they follow one another as in `montage`."""
    num_steps = len(montage.seconds)
    faults = draw_faults(num_steps, len(shots), style.faults, generator)
    pictures = _show(shots, faults.gain, montage, style.width, style.height)
    pictures = faults.spoil(pictures * torch.from_numpy(montage.light).float()[:, None, None, None])
    glare = torch.from_numpy(montage.glare).float()[:, None, None, None]
    frames = _to_frames(torch.maximum(pictures * (1 + 2 * glare), glare))
    frames = frames[montage.shown()]
    black = is_black(frames)
    if faults.crf is not None:
        frames = compress(frames, style.rate, faults.crf, faults.key_frame_distance)
    return _describe(frames, black, shots, montage, style.rate)


def _show(shots: Sequence[Shot], gain: NDArray[np.float64], montage: Montage, width: int, height: int) -> Tensor:
    """(T, 3, H, W): the shots, each in its own light, `gain` (T, shots), cut together."""
    pictures = torch.zeros(len(montage.seconds), 3, height, width)
    for index, shot in enumerate(shots):
        before, after = (montage.shots == index).T  # both are this shot where there is no transition
        share = (before * (1.0 - montage.mix) + after * montage.mix) * gain[:, index]
        steps = np.flatnonzero(share)
        if len(steps):
            seen = render(shot, montage.seconds[steps], width, height)
            pictures[steps] += seen * torch.from_numpy(share[steps]).float()[:, None, None, None]
    return pictures


def _describe(
    frames: NDArray[np.uint8], black: NDArray[np.bool_], shots: Sequence[Shot], montage: Montage, rate: float
) -> Scene:
    """The scene with the truth about every step."""
    num_steps = len(frames)
    holds, scored = np.zeros((num_steps, len(LABELS)), bool), np.ones((num_steps, len(LABELS)), bool)
    speed = np.full((num_steps, 4), np.nan, np.float32)
    for index, shot in enumerate(shots):
        steps = np.flatnonzero(montage.shots[:, 1] == index)
        if not len(steps):
            continue
        travel = look_up(shot.path, montage.moments[steps])
        truth = describe_motion(travel, rate)
        holds[steps, : len(MOTIONS)], scored[steps, : len(MOTIONS)] = truth.holds, truth.scored
        speed[steps] = mean_speed(travel, rate)
    mean, reach = frames.mean(axis=(1, 2, 3)), round(WINDOW_SECONDS * rate / 2)
    unseen = montage.changing | black | (mean < BARELY_BLACK[1])
    for start, end in stretches(montage.held):  # the picture stands still in a part of the window
        for edge in (start, end):
            unseen[max(0, edge - reach) : edge + reach] = True
    scored[unseen, : len(MOTIONS)] = False
    speed[unseen] = np.nan
    holds[:, CUT], scored[:, CUT] = montage.cut, ~(montage.joined | black)
    holds[:, DISSOLVE], scored[:, DISSOLVE] = montage.changing, ~black
    holds[:, BLACK] = black
    scored[:, BLACK] = np.where(black, mean < BARELY_BLACK[1], mean > BARELY_BLACK[0])
    _describe_freeze(frames, montage, holds, scored, rate)
    return Scene(frames, holds, scored, speed)


def _describe_freeze(
    frames: NDArray[np.uint8],
    montage: Montage,
    holds: NDArray[np.bool_],
    scored: NDArray[np.bool_],
    rate: float,
) -> None:
    """Marks, in place, freezes that last, and where nothing tells a live picture from a frozen one."""
    least = round(FREEZE_SECONDS * rate)
    for start, end in stretches(montage.held):
        lasting = end - start + 1 >= least
        holds[start:end, FREEZE] = lasting
        scored[start:end, FREEZE] = lasting
        scored[start - 1, FREEZE] = False  # the frame that will be held: no one can know yet
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    for start, end in stretches(np.concatenate((np.zeros(1, bool), change < UNCHANGED)) & ~holds[:, FREEZE]):
        if end - start >= least // 2:
            scored[start:end, FREEZE] = False
    seen = ~montage.changing & (montage.light == 1)
    scored[:, FREEZE] &= seen | ~holds[:, FREEZE]
    scored[holds[:, BLACK], FREEZE] = False


def with_textures(stills: Sequence[Still], share: float, generator: np.random.Generator) -> Sequence[Still]:
    """The stills, or sometimes drawn ones."""
    if stills and generator.random() >= share:
        return stills
    return [draw_texture(*TEXTURE_SIZE, generator) for _ in range(2)]


def _to_frames(pictures: Tensor) -> NDArray[np.uint8]:
    """(T, 3, H, W) in [0, 1] -> (T, H, W, 3)."""
    frames: NDArray[np.uint8] = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(frames)
