"""Filmed scenes with their sentences as training examples: whole, in parts and mirrored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from trainer.data.described_scenes import Script, describe
from trainer.data.filmed_scenes import FilmedScene
from trainer.data.scene_labels import LABELS
from trainer.data.sentences import Facts, to_words
from trainer.data.words import Tokens
from trainer.networks.camera_steps import CameraSteps
from trainer.networks.measured_steps import MeasuredSteps

Example = tuple[Tensor, Tensor, Tensor]
"""steps (T,D), or frames (T,H,W,3) uint8; tokens (L,) from <bos> to <eos>; labels (T,K) of each step, see UNSCORED."""
Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""steps (B,T,D) or frames (B,T,H,W,3), lengths (B,), tokens (B,L) filled up with <pad>, labels (B,T,K)."""
UNSCORED = -1.0
"""Stands for 0 or 1 where it is not known whether a label holds, and where there is no step."""

SHORTEST_PART = 18  # steps
MIRRORS = ((("pan-left", "pan-right"), (0, 3)), (("tilt-up", "tilt-down"), (1, 3)))
"""Mirroring left to right and upside down: labels that swap, and motions whose sign changes."""


def facts_of(scene: FilmedScene, rate: float) -> Facts | None:
    """All there is to say of a filmed scene; None where a fact is in doubt."""
    scale = np.array([MeasuredSteps.light_scale, MeasuredSteps.detail_scale], np.float32)
    return describe(scene.script, scene.steps[:, -2:] / scale, rate)


def mirrored(scene: FilmedScene, pair: tuple[str, str], turned: Sequence[int]) -> FilmedScene:
    """The scene with two labels swapped, and the sign of measured motions changed."""
    order = np.arange(len(LABELS))
    first, second = (LABELS.index(label) for label in pair)
    order[[first, second]] = second, first
    script = scene.script
    swapped = Script(
        script.holds[:, order], script.scored[:, order], script.shots, script.light, script.changing, script.held
    )
    steps = scene.steps.copy()
    told, measured = np.split(steps, [CameraSteps.num_told], axis=1)
    told[:] = told[:, order]
    for motion in turned:
        measured[:, motion : -MeasuredSteps.num_others : MeasuredSteps.num_of_fit] *= -1
    return FilmedScene(steps, swapped)


@dataclass(frozen=True, slots=True)
class Shares:
    """Probabilities of changes to a scene before it is learnt from."""

    mirror: float = 0.0
    """For each direction."""
    part: float = 0.0
    """That a part replaces it, if a sentence can be told of that part."""


class SceneComments(Dataset[Example]):
    """Item `draw` is scene `draw` modulo their number; its changes depend on the seed and `draw` alone."""

    def __init__(self, scenes: Sequence[FilmedScene], rate: float, tokens: Tokens, shares: Shares, seed: int) -> None:
        self.scenes = scenes
        self.rate = rate
        self.tokens = tokens
        self.shares = shares
        self.seed = seed

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, draw: int) -> Example:
        generator = np.random.default_rng((self.seed, draw))
        scene = self.scenes[draw % len(self.scenes)]
        for pair, turned in MIRRORS:
            if generator.random() < self.shares.mirror:
                scene = mirrored(scene, pair, turned)
        if generator.random() < self.shares.part:
            start, end = _draw_part(len(scene.steps), generator)
            part = FilmedScene(scene.steps[start:end], scene.script.part(start, end))
            scene = part if facts_of(part, self.rate) else scene
        facts = facts_of(scene, self.rate)
        assert facts is not None
        words = torch.tensor(self.tokens.encode(to_words(facts)))
        labels = np.where(scene.script.scored, scene.script.holds, UNSCORED).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(scene.steps)), words, torch.from_numpy(labels)


def _draw_part(num_steps: int, generator: np.random.Generator) -> tuple[int, int]:
    """(start, end). A third of the parts keep the beginning and a third the end, where fades in and out are known."""
    length = int(generator.integers(min(SHORTEST_PART, num_steps), num_steps + 1))
    start = int(generator.integers(0, num_steps - length + 1))
    kind = generator.random()
    start = 0 if kind < 0.33 else num_steps - length if kind < 0.66 else start
    return start, start + length


def collate(examples: Sequence[Example]) -> Batch:
    """Examples of different lengths in one batch."""
    inputs, words, labels = (list(part) for part in zip(*examples, strict=True))
    return (
        pad_sequence(inputs, batch_first=True),
        torch.tensor([len(one) for one in inputs]),
        pad_sequence(words, batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=UNSCORED),
    )


def certain(scenes: Sequence[FilmedScene], rate: float) -> list[FilmedScene]:
    """The scenes of which no fact is in doubt: all of them, but for rounding."""
    return [scene for scene in scenes if facts_of(scene, rate) is not None]
