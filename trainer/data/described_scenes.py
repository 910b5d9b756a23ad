"""Scenes that one sentence can fully describe, and what it says, known from the parameters that made them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.camera_path import PathStyle, look_up
from trainer.data.montage import Montage, MontageStyle, draw_montage
from trainer.data.picture_faults import FaultStyle
from trainer.data.scene_labels import BLACK, CUT, FREEZE, MOTIONS, describe_motion, stretches
from trainer.data.scenes import Scene, SceneStyle, film, with_textures
from trainer.data.sentences import Detail, Edit, Event, Facts, Light, Move, move_of
from trainer.data.shots import Shot, ShotStyle, Still, draw_shot
from trainer.networks.luma import luma
from trainer.networks.measured_steps import light_and_detail

DESCRIBED_STYLE = SceneStyle(
    shot=ShotStyle(
        path=PathStyle(
            part_seconds=(2.0, 6.0),
            easing_seconds=(0.1, 0.4),
            still_share=0.2,
            two_share=0.1,
            shake_share=0.25,
            jerk_share=0.0,
        )
    ),
    montage=MontageStyle(
        num_joins=(0.35, 0.4, 0.25), freeze_share=0.15, freeze_seconds=(1.0, 3.0), jump_share=0.0, still_share=0.0
    ),
    faults=FaultStyle(clean_share=0.0),
)
"""As the scenes of `camera`, but slower: a motion lasts two seconds or more, since each takes a clause."""
NUM_STEPS = (36, 97)
"""Length of a scene, drawn evenly: 3 to 8 s at 12 steps a second."""
END_FADE_SHARE = 0.12
"""Share of the scenes that open with a fade from black, and of those that end in a fade to black."""
END_FADE_SECONDS = (0.4, 1.4)

SHORTEST_MOVE = 6
"""Steps for which a motion must hold before the sentence mentions it."""
LONGEST_DOUBT = 9
"""Most steps in a row for which the camera's motion may be unknown; a scene with more is not described."""
DARK, NOT_DARK, NOT_BRIGHT, BRIGHT = 0.18, 0.21, 0.44, 0.48
"""Mean luma of all steps. Between the first two, and between the last two, people would disagree."""
PLAIN, NOT_PLAIN, NOT_BUSY, BUSY = 0.014, 0.016, 0.031, 0.034
"""Mean difference in luma between neighbouring pixels, over all steps, at the size that the model sees."""


@dataclass(frozen=True, slots=True)
class Script:
    """What happens in each of T steps, and how certain that is."""

    holds: NDArray[np.bool_]
    """(T, K): which of scene_labels.LABELS hold."""
    scored: NDArray[np.bool_]
    """(T, K): for which of them this is certain."""
    shots: NDArray[np.int64]
    """(T,): the number of the shot; where there are two, the later one."""
    light: NDArray[np.float64]
    """(T,): of fades, in [0, 1]."""
    changing: NDArray[np.bool_]
    """(T,): dissolving or fading."""
    held: NDArray[np.bool_]
    """(T,): the picture stands still."""

    def part(self, start: int, end: int) -> "Script":
        """Its steps [start, end)."""
        return Script(**{field.name: getattr(self, field.name)[start:end] for field in fields(self)})


def draw_described(
    stills: Sequence[Still], style: SceneStyle, generator: np.random.Generator
) -> tuple[Scene, Script, Facts]:
    """A scene, what happens in it, and all there is to say. A scene with a doubtful fact is drawn again."""
    while True:
        num_steps = int(generator.integers(*NUM_STEPS))
        montage = _with_end_fades(draw_montage(num_steps, style.rate, style.montage, generator), style.rate, generator)
        seconds = float(montage.moments.max()) + 1.0
        shots = [
            draw_shot(with_textures(stills, style.texture_share, generator), seconds, style.shot, generator)
            for _ in range(int(montage.shots.max()) + 1)
        ]
        if not _certain(shots, montage, style.rate):  # before the slow part
            continue
        scene = film(shots, montage, style, generator)
        script = Script(scene.holds, scene.scored, montage.shots[:, 1], montage.light, montage.changing, montage.held)
        if (facts := describe(script, measure(scene.frames), style.rate)) is not None:
            return scene, script, facts


def describe(script: Script, measures: NDArray[np.float32], rate: float) -> Facts | None:
    """All there is to say about a script with these `measures` (T, 2); None if a fact is in doubt."""
    story, seen = tell(script, rate), look(*measures.mean(axis=0).tolist())
    return None if story is None or seen is None else Facts(*seen, story)


def measure(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """frames (T, H, W, 3) -> (T, 2): the light and detail of each."""
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].to(torch.float32) / 255.0
    measures: NDArray[np.float32] = light_and_detail(luma(pictures))[0].numpy()
    return measures


def tell(script: Script, rate: float) -> tuple[Move | Event, ...] | None:
    """The story of a script, in order of time; None if anything in it is in doubt."""
    edits, moves = _edits(script, rate), _moves(script)
    if edits is None or moves is None:
        return None
    items: list[tuple[float, Move | Event]] = [*edits, *moves]
    story: list[Move | Event] = []
    for _, item in sorted(items, key=lambda item: item[0]):
        if not (isinstance(item, Move) and story and story[-1] == item):  # goes on as before
            story.append(item)
    return tuple(story)


def look(luma: float, difference: float) -> tuple[Light | None, Detail | None] | None:
    """How bright and busy pictures with this mean luma and mean difference are; None where opinions differ."""
    if DARK < luma < NOT_DARK or NOT_BRIGHT < luma < BRIGHT:
        return None
    if PLAIN < difference < NOT_PLAIN or NOT_BUSY < difference < BUSY:
        return None
    light: Light | None = "dark" if luma <= DARK else "bright" if luma >= BRIGHT else None
    detail: Detail | None = "plain" if difference <= PLAIN else "busy" if difference >= BUSY else None
    return light, detail


def _with_end_fades(montage: Montage, rate: float, generator: np.random.Generator) -> Montage:
    """The montage, sometimes with a fade from black at the start or to black at the end."""
    clock = np.arange(len(montage.light)) / rate
    light = montage.light.copy()
    before, after = generator.uniform(*END_FADE_SECONDS, 2)
    if generator.random() < END_FADE_SHARE:
        light *= np.clip(clock / before, 0.0, 1.0)
    if generator.random() < END_FADE_SHARE:
        light *= np.clip((clock[-1] - clock) / after, 0.0, 1.0)
    changing = montage.changing | ((light > 0) & (light < 1))
    return replace(montage, light=light, changing=changing, joined=montage.joined | (light == 0))


def _certain(shots: Sequence[Shot], montage: Montage, rate: float) -> bool:
    """Whether the motion of all shots can be told from their paths."""
    num_steps = len(montage.seconds)
    holds, scored = np.zeros((num_steps, len(MOTIONS)), bool), np.ones((num_steps, len(MOTIONS)), bool)
    for index, shot in enumerate(shots):
        steps = np.flatnonzero(montage.shots[:, 1] == index)
        if len(steps):
            truth = describe_motion(look_up(shot.path, montage.moments[steps]), rate)
            holds[steps], scored[steps] = truth.holds, truth.scored
    script = Script(holds, scored, montage.shots[:, 1], montage.light, montage.changing, montage.held)
    return _moves(script) is not None


def _moves(script: Script) -> list[tuple[float, Move]] | None:
    """What the camera does, and from which step on; None if that is in doubt."""
    found: list[tuple[float, Move]] = []
    holds = script.holds[:, : len(MOTIONS)]
    known = script.scored[:, : len(MOTIONS)].all(axis=1) & ~script.held & ~script.changing & (script.light == 1)
    excused = script.held | script.changing | (script.light < 1)
    for shot in np.unique(script.shots):
        inside = script.shots == shot
        if (doubt := stretches(inside & ~known & ~excused)) and max(e - s for s, e in doubt) > LONGEST_DOUBT:
            return None
        runs: list[list[int]] = []  # [first, last] of equal steps, ignoring doubtful ones between them
        for step in np.flatnonzero(inside & known):
            split = runs and script.held[runs[-1][1] : step].any()
            if runs and not split and (holds[step] == holds[runs[-1][1]]).all():
                runs[-1][1] = int(step)
            else:
                runs.append([int(step), int(step)])
        if any(last - first + 1 < SHORTEST_MOVE for first, last in runs):
            return None
        if not runs and (inside & ~excused).sum() > LONGEST_DOUBT:
            return None
        found.extend((first, move_of(holds[first])) for first, _ in runs)
    return found


def _edits(script: Script, rate: float) -> list[tuple[float, Event]] | None:
    """The edits, each with its step; None if one is in doubt."""
    found: list[tuple[float, Event]] = []
    num_steps = len(script.light)
    near_light = script.light < 1
    near_light = near_light | np.roll(near_light, 1) | np.roll(near_light, -1)
    if (~script.scored[:, CUT] & ~near_light & ~script.holds[:, BLACK]).any():
        return None
    dim = script.light < 1
    if (script.holds[:, CUT] & dim).any():  # a shot that fades to black does not end in a cut
        return None
    found.extend((step - 0.5, Event("cut", step / rate)) for step in np.flatnonzero(script.holds[:, CUT]).tolist())
    for start, end in stretches(script.changing & ~dim):
        if start == 0 or end == num_steps or dim[start - 1] or dim[end]:
            return None
        found.append((start - 0.5, Event("dissolve", (start + end - 1) / 2 / rate)))
    for start, end in stretches(dim):
        if start == 0 and end == num_steps:
            return None
        edit: Edit = "fade" if script.changing[start:end].any() else "black"
        if start == 0 or end == num_steps:
            if edit == "black" or script.light[0 if start == 0 else -1] > 0:
                return None
            found.append((start - 0.5, Event("fade-in" if start == 0 else "fade-out")))
        else:
            found.append((start - 0.5, Event(edit, (start + end - 1) / 2 / rate)))
    freezes = _freezes(script, rate)
    return None if freezes is None else found + freezes


def _freezes(script: Script, rate: float) -> list[tuple[float, Event]] | None:
    """Where the picture freezes; None if no one can tell whether it does."""
    found: list[tuple[float, Event]] = []
    sure = script.holds[:, FREEZE] & script.scored[:, FREEZE]
    for start, end in stretches(script.held):
        if sure[start:end].sum() < SHORTEST_MOVE:
            return None
        found.append((start - 1.0, Event("freeze", max(start - 1, 0) / rate)))
    doubt = stretches(~script.scored[:, FREEZE] & ~script.held & (script.light == 1))
    return None if any(end - start >= SHORTEST_MOVE for start, end in doubt) else found
