"""Generated scenes as a data set."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.scenes import SceneStyle, draw_scene
from trainer.data.shots import Still

Clip = tuple[Tensor, Tensor, Tensor, Tensor]
"""frames (T,H,W,3) uint8, labels that hold and labels that are scored (T,K) bool, speeds (T,4)."""


class Scenes(Dataset[Clip]):
    """Item `draw` depends on the stills, the style, the seed and that number alone, whatever process draws it."""

    def __init__(self, stills: Sequence[Still], count: int, clip_length: int, style: SceneStyle, seed: int) -> None:
        self.stills = stills
        self.count = count
        self.clip_length = clip_length
        self.style = style
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, draw: int) -> Clip:
        generator = np.random.default_rng((self.seed, draw))
        scene = draw_scene(self.stills, self.clip_length, self.style, generator)
        return (
            torch.from_numpy(scene.frames),
            torch.from_numpy(scene.holds),
            torch.from_numpy(scene.scored),
            torch.from_numpy(scene.speed),
        )
