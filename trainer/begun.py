"""The folder of a run while it trains, and what it was begun with."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.models.manifest import CaptionOutput, ClassifyOutput, FeaturesOutput, PredictOutput, Task
from trainer.recipe.reading import RecipeError
from trainer.run import RECIPE, RESULT

BEGUN = "begun.json"


class Begun(BaseModel):
    """What a run was begun with. Resumed with anything else, it would claim what is not true of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Task
    name: str
    recipe: str
    """YAML, with `--set` in it."""
    cell: Literal["lstm", "gru"]
    seed: int
    data: str
    test_data: str | None
    group_pattern: str | None
    val_fraction: float
    test_fraction: float
    weights: str | None
    teachers: tuple[str, ...]
    patience: int
    num_devices: int
    num_examples: dict[str, int]
    """By split."""
    output: ClassifyOutput | PredictOutput | FeaturesOutput | CaptionOutput
    """With the labels, in the order of the logits."""
    command: str | None = None
    """The one that began it, whatever resumed it; None in older runs."""

    def told_apart_by(self) -> dict[str, Any]:
        """What must be the same where the run is resumed, as JSON has it."""
        return self.model_dump(mode="json", exclude={"command"})


def begin(output: Path | None, begun: Begun) -> Path:
    """A new folder for the run: `output`, or `runs/<name>` with a number where that is taken.

    Raises FileExistsError for an `output` that is there.
    """
    folder = output or _numbered(begun.name, 1)
    if int(os.environ.get("LOCAL_RANK", 0)):  # of several processes, the others do not write
        return folder
    number = 1
    while True:  # until it is this process that makes the folder: another may begin the same
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if output:
                raise FileExistsError(f"{folder} already exists; --resume goes on with it") from None
            number += 1
            folder = _numbered(begun.name, number)
    (folder / RECIPE).write_text(begun.recipe, encoding="utf-8")
    (folder / BEGUN).write_text(begun.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return folder


def go_on(output: Path | None, begun: Begun) -> Path:
    """The folder of the run that goes on: `output`, or the newest of that name that is not finished.

    Raises FileNotFoundError where there is none, FileExistsError for a finished one, RecipeError for one that was
    begun with something else.
    """
    folder = output or _unfinished(begun.name)
    if not (folder / BEGUN).exists():
        raise FileNotFoundError(f"{folder} is not a run that can be resumed")
    if (folder / RESULT).exists():
        raise FileExistsError(f"{folder} is finished: publish it with `publish --run {folder}`")
    before, now = read_begun(folder).told_apart_by(), begun.told_apart_by()
    if others := [name for name in now if before[name] != now[name]]:
        told = ", ".join(other.replace("_", " ") for other in others)
        raise RecipeError(f"{folder} was begun with another {told}: see {folder / BEGUN}")
    return folder


def read_begun(folder: Path) -> Begun:
    """What the run in `folder` was begun with."""
    return Begun.model_validate_json((folder / BEGUN).read_bytes())


def _unfinished(name: str) -> Path:
    folders: list[Path] = []
    while (folder := _numbered(name, len(folders) + 1)).exists():
        folders.append(folder)
    unfinished = [folder for folder in folders if not (folder / RESULT).exists()]
    if not unfinished:
        raise FileNotFoundError(f"no run of {name} in {Path('runs')} can be resumed")
    return unfinished[-1]


def _numbered(name: str, number: int) -> Path:
    return Path("runs") / (name if number == 1 else f"{name}-{number}")
