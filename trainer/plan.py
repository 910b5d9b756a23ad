"""What a training of any task consists of and what it yields: all that `train` and `publish` know about a task."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.jit import ScriptModule
from torch.utils.data import DataLoader

from app.models.manifest import CaptionOutput, ClassifyOutput, FeaturesOutput, Input, PredictOutput
from trainer.data.prepare import DataOptions
from trainer.recipe.reading import RecipeError
from trainer.tasks.learner import Learner


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What a plan depends on, besides its recipe."""

    data: DataOptions
    cell: Literal["lstm", "gru"]
    seed: int
    num_devices: int = 1
    """Processes that share each batch."""
    teachers: tuple[Path, ...] = ()
    """Finished runs whose answers are learnt beside the labels; for classifiers of labelled videos or sounds, except
    those that see flow."""
    num_loaders: int = 0
    """Processes that draw generated clips; clips of videos are read from the cache and need none."""


def check_alone(options: PlanOptions) -> None:
    """Raises RecipeError for more than one process: one process draws all batches of sounds of similar lengths."""
    if options.num_devices > 1:
        raise RecipeError("models of sound are trained by one process: give --devices 1")


@dataclass(frozen=True, slots=True)
class Report:
    """How good a published file is."""

    metrics: dict[str, dict[str, float]]
    """By set, such as `val` and `test`, then by name."""
    text: str
    """Tables for the card, Markdown."""
    limits: tuple[str, ...]
    """What the model is not good at: sentences for the card."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One training, ready to begin."""

    learner: Learner[Any]
    train: DataLoader[Any]
    val: DataLoader[Any] | None
    input: Input
    output: ClassifyOutput | PredictOutput | FeaturesOutput | CaptionOutput
    golden: tuple[NDArray[Any], NDArray[np.int64]]
    """A generated batch of frames or sound, long enough to be split, and its lengths, one of them shorter."""
    summary: str
    num_examples: dict[str, int]
    """By split."""
    kept_apart: str
    """What is never in two splits, in words."""
    headline: str
    """The metric by which runs are compared."""
    evaluate: Callable[[ScriptModule, Path], Report]
    """Measures the published file. It may write to the run's folder, and pictures for the card to `pictures/`."""
    finish: Callable[[Any], None] = lambda network: None
    """Does what remains to be done to the trained network before it is published."""
