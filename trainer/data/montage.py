"""How shots follow one another: cuts, dissolves, fades, black, and frozen pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.chance import log_uniform

FLOOR = 1e-6  # seconds: 0.5 * 12 is 6, not the frame before it, however it was rounded


@dataclass(frozen=True, slots=True)
class MontageStyle:
    """Ranges from which montages are drawn."""

    frame_rate: tuple[float, float] = (5.0, 60.0)
    """Frames per second of the imitated video; log-uniform."""
    num_joins: tuple[float, ...] = (0.3, 0.4, 0.3)
    """Chances of none, one and two."""
    kinds: tuple[tuple[str, float], ...] = (("cut", 0.5), ("dissolve", 0.25), ("fade", 0.15), ("black", 0.1))
    """How one shot becomes the next. fade: through black, which may last; black: a cut to black and a cut out of it."""
    transition_seconds: tuple[float, float] = (0.3, 1.6)
    black_seconds: tuple[float, float] = (0.0, 1.2)
    freeze_share: float = 0.25
    """Of the scenes: the picture freezes for a while."""
    freeze_seconds: tuple[float, float] = (0.6, 2.5)
    still_share: float = 0.08
    """Of the scenes: stills only, from beginning to end, as in a slide show."""
    jump_share: float = 0.3
    """Of the freezes: the video goes on with what would be there by now, not with the next frame."""
    flash_share: float = 0.15
    """Of the scenes: one or two frames of glare, which are not a cut."""


@dataclass(frozen=True, slots=True)
class Montage:
    """What each of T steps shows. All arrays are (T, ...)."""

    seconds: NDArray[np.float64]
    """The moment of the scene that is on display; the same as the step before where no new frame has come."""
    moments: NDArray[np.float64]
    """The same, if the video had infinitely many frames per second."""
    shots: NDArray[np.int64]
    """(T, 2): the shot before and the shot after."""
    mix: NDArray[np.float64]
    """Share of the shot after, in [0, 1]."""
    light: NDArray[np.float64]
    """Of fades, in [0, 1]: 0 is black."""
    glare: NDArray[np.float64]
    """Of flashes, in [0, 1]."""
    cut: NDArray[np.bool_]
    """The first step of a shot that begins without a transition."""
    joined: NDArray[np.bool_]
    """So near an edge of something that it is not scored whether there is a cut."""
    changing: NDArray[np.bool_]
    """Dissolving or fading."""
    held: NDArray[np.bool_]
    """The picture stands still, and did so at the step before."""

    def shown(self) -> NDArray[np.int64]:
        """(T,): the step whose picture, noise included, is on display: an earlier one where no new frame has come."""
        steps = np.arange(len(self.seconds))
        for step in range(1, len(steps)):
            same = self.seconds[step] == self.seconds[step - 1] and (self.shots[step] == self.shots[step - 1]).all()
            # Even a still may fade.
            if same and self.mix[step] == self.mix[step - 1] and self.light[step] == self.light[step - 1]:
                steps[step] = steps[step - 1]
        return steps


def draw_montage(num_steps: int, rate: float, style: MontageStyle, generator: np.random.Generator) -> Montage:
    frame_rate = log_uniform(style.frame_rate, 1, generator)[0]
    moments = np.arange(num_steps) / rate
    joins, kinds = _draw_joins(moments[-1], style, generator)
    all_still = style.still_share > 0 and generator.random() < style.still_share
    moments, held, jumped = _freeze(moments, joins, style, generator)
    if all_still:
        moments, jumped = np.zeros(num_steps), np.zeros(num_steps, bool)
    seconds = np.floor(moments * frame_rate + FLOOR) / frame_rate
    clock = np.arange(num_steps) / rate
    edited = np.floor(clock * frame_rate + FLOOR) / frame_rate  # edits fall on frames too
    shots = np.repeat((edited[:, None] + FLOOR >= joins).sum(axis=1)[:, None], 2, axis=1)
    if all_still:
        held = np.diff(shots[:, 1], prepend=-1) == 0
    mix, light = np.ones(num_steps), np.ones(num_steps)
    cut, joined = np.zeros(num_steps, bool), jumped
    room = float(np.diff(joins).min(initial=np.inf)) / 2  # overlapping transitions would jump
    for join, kind in zip(joins, kinds, strict=True):
        before, after = np.minimum(generator.uniform(*style.transition_seconds, 2) / 2, room)
        hold = min(generator.uniform(*style.black_seconds), room)
        first = int(np.argmax(edited + FLOOR >= join))
        if kind == "cut":
            cut[first] = True
        elif kind == "dissolve":
            within = (edited > join - before) & (edited < join + after)
            shots[within, 0], shots[within, 1] = shots[first, 1] - 1, shots[first, 1]
            mix[within] = (edited[within] - join + before) / (before + after)
        else:
            if kind == "black":
                before = after = FLOOR
                hold = max(hold, 0.3)
            light *= np.clip(np.maximum((join - edited) / before, (edited - join - hold) / after), 0.0, 1.0)
    changing = ((mix > 0) & (mix < 1)) | ((light > 0) & (light < 1))
    joined |= np.diff(light == 0, prepend=light[0] == 0)
    return Montage(
        seconds, moments, shots, mix, light, _flash(num_steps, style, generator), cut, joined, changing, held
    )


def _draw_joins(
    seconds: float, style: MontageStyle, generator: np.random.Generator
) -> tuple[NDArray[np.float64], list[str]]:
    """When shots meet, in seconds, and how."""
    count = int(generator.choice(len(style.num_joins), p=style.num_joins))
    # Each in its own part of the scene, so that every shot is long enough to tell how it moves.
    bounds = np.linspace(0.0, seconds, count + 1)
    joins = bounds[:-1] + generator.uniform(0.15, 0.85, count) * np.diff(bounds)
    names, chances = zip(*style.kinds, strict=True)
    return joins, [str(generator.choice(names, p=chances)) for _ in range(count)]


def _freeze(
    moments: NDArray[np.float64], joins: NDArray[np.float64], style: MontageStyle, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The moments with one of them held for a while, the steps where it is held, and the step where time jumps on."""
    held, jumped = np.zeros(len(moments), bool), np.zeros(len(moments), bool)
    if generator.random() >= style.freeze_share:
        return moments, held, jumped
    start = generator.uniform(-0.3, moments[-1] - 0.6)
    inside = (moments >= start) & (moments < start + generator.uniform(*style.freeze_seconds))
    shots = (moments[:, None] >= joins).sum(axis=1)
    inside &= shots == shots[int(np.argmax(inside))]  # a cut ends it
    first, last = np.flatnonzero(inside)[[0, -1]]
    frozen = moments.copy()
    frozen[first : last + 1] = moments[first]
    held[first + 1 : last + 1] = True
    if last + 1 < len(moments):
        if generator.random() < style.jump_share:
            jumped[last + 1] = True
        else:
            frozen[last + 1 :] -= moments[last] - moments[first]
    return frozen, held, jumped


def _flash(num_steps: int, style: MontageStyle, generator: np.random.Generator) -> NDArray[np.float64]:
    glare = np.zeros(num_steps)
    if generator.random() < style.flash_share:
        for _ in range(int(generator.integers(1, 4))):
            start = int(generator.integers(1, num_steps))  # at the very first step, the end of the flash would be a cut
            glare[start : start + int(generator.integers(1, 3))] = generator.uniform(0.3, 0.95)
    return glare
