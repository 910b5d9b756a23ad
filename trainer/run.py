"""What came out of a run: with its recipe and checkpoint, all that publishing and comparing need."""

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from app.models.manifest import (
    CaptionOutput,
    ClassifyOutput,
    FeaturesOutput,
    Input,
    Name,
    PredictOutput,
    Task,
    TrainingData,
)

MODEL = "model.pt"
RESULT = "result.json"
RECIPE = "recipe.yaml"
"""As it was carried out, with `--set` in it."""


class Epoch(BaseModel):
    """One row of the learning curve."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    train_loss: float
    validation: dict[str, float]
    """What the learner logged on the validation set, by name; empty where it was not validated."""


def validated(epochs: Iterable[Epoch]) -> list[str]:
    """The names of all that was logged on the validation set."""
    return list(dict.fromkeys(name for epoch in epochs for name in epoch.validation))


class Run(BaseModel):
    """One training, finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    task: Task
    summary: str
    cell: Literal["lstm", "gru"]
    settings: tuple[str, ...]
    """`key=value` for each setting that replaced the recipe's."""
    options: tuple[str, ...] = ()
    """`key=value` for other options of the command that change what is learnt; empty in older runs."""
    seed: int
    command: str
    date: datetime.date
    input: Input
    output: ClassifyOutput | PredictOutput | FeaturesOutput | CaptionOutput
    training_data: tuple[TrainingData, ...]
    num_examples: dict[str, int]
    """By split."""
    kept_apart: str | None = None
    """What is never in two splits, in words; None in older runs."""
    num_parameters: int
    minutes: float
    """Of training, decoding and evaluation not counted."""
    num_threads: int
    """Of torch, in each process."""
    num_processes: int = 1
    """That shared each batch."""
    precision: str
    epochs: tuple[Epoch, ...]
    kept_epoch: int | None = None
    """Whose weights are published; None: a run from before this was told."""
    metrics: dict[str, dict[str, float]]
    """By test set, then by name."""
    headline: str
    """The metric that runs are compared by."""
    report: str
    """Tables of results, Markdown."""
    limits: tuple[str, ...]

    @property
    def variant(self) -> str:
        """What sets this run apart from others of its kind, the seed aside."""
        return ", ".join((self.cell, *self.settings, *self.options))


def read_run(folder: Path) -> Run:
    """The run in `folder`; raises OSError, or pydantic.ValidationError for anything that is not one."""
    if not (folder / RESULT).exists():
        raise FileNotFoundError(f"{folder} is no finished run: there is no {RESULT} in it")
    return Run.model_validate_json((folder / RESULT).read_bytes())


def write_run(run: Run, folder: Path) -> None:
    """Writes `result.json`."""
    partial = folder / f".{RESULT}"  # a run whose result is there is finished: never half of one
    partial.write_text(run.model_dump_json(indent=2), encoding="utf-8")
    partial.replace(folder / RESULT)
