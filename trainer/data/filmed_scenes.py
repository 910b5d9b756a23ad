"""Scenes filmed once and measured once: what a describer learns from instead of pictures."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.described_scenes import Script, draw_described
from trainer.data.scenes import SceneStyle
from trainer.data.shots import Still
from trainer.networks.measured_steps import MeasuredSteps
from trainer.progress import progress

LAYOUT = 1
"""Part of every key; another number makes all reels again."""
SCENES_PER_REEL = 50


@dataclass(frozen=True, slots=True)
class FilmedScene:
    steps: NDArray[np.float32]
    """(T, D), as MeasuredSteps gives them."""
    script: Script


def film_scenes(
    stills: Sequence[Still], count: int, style: SceneStyle, seed: int, reader: MeasuredSteps, cache: Path
) -> list[FilmedScene]:
    """`count` scenes, the same for the same arguments; each is filmed once for all trainings that share the `cache`.

    A scene takes a third of a second to film, and half as long to be measured.
    """
    cache.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(repr((LAYOUT, style, seed, reader.lag)).encode())
    for still in stills:
        digest.update(still.tobytes())
    name = digest.hexdigest()[:32]
    starts = range(0, count, SCENES_PER_REEL)
    scenes: list[FilmedScene] = []
    for start in progress(iter(starts), len(starts), "filming"):
        end = min(start + SCENES_PER_REEL, count)
        reel = cache / f"{name}-{start}-{end}.npz"
        if not reel.exists():
            _write(reel, [_film(stills, style, seed, index, reader) for index in range(start, end)])
        scenes.extend(_read(reel))
    return scenes


def read_frames(frames: NDArray[np.uint8], reader: MeasuredSteps) -> NDArray[np.float32]:
    """frames (T, H, W, 3) -> steps (T, D)."""
    with torch.inference_mode():
        steps: NDArray[np.float32] = reader(torch.from_numpy(frames)[None], torch.tensor([len(frames)]))[0].numpy()
    return steps


def _film(stills: Sequence[Still], style: SceneStyle, seed: int, index: int, reader: MeasuredSteps) -> FilmedScene:
    scene, script, _ = draw_described(stills, style, np.random.default_rng((seed, index)))
    return FilmedScene(read_frames(scene.frames, reader), script)


def _write(reel: Path, scenes: Sequence[FilmedScene]) -> None:
    tracks = {
        field.name: np.concatenate([getattr(scene.script, field.name) for scene in scenes]) for field in fields(Script)
    }
    partial = reel.with_suffix(".part.npz")
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
