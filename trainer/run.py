"""What came out of a run: with its recipe and checkpoint, all that publishing and comparing need."""

import datetime
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from app.models.manifest import Input, Name, TrainingData
from trainer.metrics import Evaluation
from trainer.recipe import Recipe

RESULT = "result.json"
RECIPE = "recipe.yaml"
"""As it was carried out, with `--set` in it."""


class Epoch(BaseModel):
    """One row of the learning curve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float


class Run(BaseModel):
    """One training, finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    task: Literal["classify"]
    summary: str
    cell: Literal["lstm", "gru"]
    settings: tuple[str, ...]
    """`key=value` where the recipe was departed from."""
    seed: int
    command: str
    date: datetime.date
    labels: tuple[str, ...]
    input: Input
    training_data: tuple[TrainingData, ...]
    num_videos: dict[str, int]
    """By split."""
    num_parameters: int
    minutes: float
    """Of training, decoding and evaluation not counted."""
    num_threads: int
    precision: str
    epochs: tuple[Epoch, ...]
    evaluations: dict[str, Evaluation]
    """By split: `val`, on which the checkpoint was chosen, and `test`, read once, where there is one."""

    @property
    def variant(self) -> str:
        """What sets this run apart from others of its kind, the seed aside."""
        return ", ".join((self.cell, *self.settings))


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML, complete."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
    return text


def read_run(folder: Path) -> Run:
    """The run in `folder`; raises OSError, or pydantic.ValidationError for anything that is not one."""
    return Run.model_validate_json((folder / RESULT).read_bytes())


def write_run(run: Run, folder: Path) -> None:
    """Writes `result.json`."""
    (folder / RESULT).write_text(run.model_dump_json(indent=2), encoding="utf-8")
