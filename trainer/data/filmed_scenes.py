"""Films and measures scenes once, for a describer to learn from instead of pictures."""

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from app.models import torchscript
from trainer.data.described_scenes import Script, draw_described
from trainer.data.scenes import SceneStyle
from trainer.data.shots import Still
from trainer.networks.camera_steps import CameraSteps
from trainer.progress import progress
from trainer.recipe.reading import RecipeError

LAYOUT = 3
"""Part of every key: a new number makes all reels again."""
SCENES_PER_REEL = 50


class SceneReader:
    """Reads pictures as a describer does, through the camera classifier in a `model.pt`."""

    def __init__(self, model: Path) -> None:
        """Raises OSError, and RecipeError for a file of anything else."""
        content = model.read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        try:
            self.camera = torchscript.load_as_saved(content)
            self._steps = CameraSteps(self.camera).eval()
        except (*torchscript.RUN_ERRORS, AttributeError) as error:
            raise RecipeError(f"{model} is not a classifier of camera work") from error

    def read(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """frames (T, H, W, 3) -> steps (T, D)."""
        with torch.inference_mode():
            (steps,) = self._steps(torch.from_numpy(frames)[None], torch.tensor([len(frames)]))
        read: NDArray[np.float32] = steps.numpy()
        return read


@dataclass(frozen=True, slots=True)
class FilmedScene:
    steps: NDArray[np.float32]
    """(T, D), as CameraSteps gives them."""
    script: Script


def film_scenes(
    stills: Sequence[Still],
    count: int,
    style: SceneStyle,
    seed: int,
    reader: SceneReader,
    cache: Path,
    num_processes: int = 0,
) -> list[FilmedScene]:
    """`count` scenes, always the same for the same arguments; trainings that share the `cache` film each only once.

    A scene takes a third of a second to film, and half as long to measure. `num_processes`: how many processes film
    side by side; 0: only this one.
    """
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(repr((LAYOUT, style, seed, reader.digest)).encode())
    for still in stills:
        digest.update(still.tobytes())
    reels = _Reels(stills, count, style, seed, reader, cache / digest.hexdigest()[:32])
    loader = DataLoader[Path](reels, batch_size=None, num_workers=num_processes)
    return [scene for reel in progress(loader, len(reels), "filming") for scene in _read(reel)]


@dataclass(frozen=True, slots=True)
class _Reels(Dataset[Path]):
    """Item `index` is a file of SCENES_PER_REEL scenes, fewer in the last one. It is made when first asked for."""

    stills: Sequence[Still]
    count: int
    style: SceneStyle
    seed: int
    reader: SceneReader
    stem: Path
    """How each file name begins."""

    def __len__(self) -> int:
        return math.ceil(self.count / SCENES_PER_REEL)

    def __getitem__(self, index: int) -> Path:
        start = index * SCENES_PER_REEL
        end = min(start + SCENES_PER_REEL, self.count)
        reel = self.stem.with_name(f"{self.stem.name}-{start}-{end}.npz")
        if not reel.exists():
            write_reel(
                reel, [_film(self.stills, self.style, self.seed, scene, self.reader) for scene in range(start, end)]
            )
        return reel


def _film(stills: Sequence[Still], style: SceneStyle, seed: int, index: int, reader: SceneReader) -> FilmedScene:
    scene, script, _ = draw_described(stills, style, np.random.default_rng((seed, index)))
    return FilmedScene(reader.read(scene.frames), script)


def write_reel(reel: Path, scenes: Sequence[FilmedScene]) -> None:
    """Writes scenes to a file, completely or not at all."""
    tracks = {
        field.name: np.concatenate([getattr(scene.script, field.name) for scene in scenes]) for field in fields(Script)
    }
    partial = reel.with_suffix(f".{os.getpid()}.part.npz")  # another process may film the same reel
    tracks |= {
        "lengths": np.array([len(scene.steps) for scene in scenes]),
        "steps": np.concatenate([scene.steps for scene in scenes]),
    }
    np.savez_compressed(partial, **tracks)  # type: ignore[arg-type]  # numpy takes any name
    partial.replace(reel)


def _read(reel: Path) -> Iterator[FilmedScene]:
    with np.load(reel, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    bounds = np.cumsum(arrays.pop("lengths"))[:-1]
    parts = {name: np.split(array, bounds) for name, array in arrays.items()}
    steps = parts.pop("steps")
    for index in range(len(steps)):
        yield FilmedScene(steps[index], Script(**{name: part[index] for name, part in parts.items()}))
