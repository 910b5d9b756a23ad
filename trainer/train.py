"""`train TASK`: from a folder of media to a version in the model store."""

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning
import torch
from pydantic import TypeAdapter

from app.models import torchscript
from app.models.manifest import Name, Task, TrainingData
from trainer.data.prepare import DataOptions
from trainer.plan import Plan, PlanOptions, Report
from trainer.plans import plan_training
from trainer.publish import Compiled, publish
from trainer.recipe.reading import RecipeError, recipe_text
from trainer.recipe.sections import Recipe
from trainer.run import RECIPE, Run, write_run
from trainer.training import Fitted, Machine, fit


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One `train TASK`."""

    task: Task
    name: str
    data: DataOptions
    recipe: Path
    settings: tuple[str, ...]
    """`section.key=value`, instead of the recipe's."""
    cell: Literal["lstm", "gru"]
    seed: int
    weights: Path | None
    """A `model.pt` to start from where the shapes fit; None: from scratch."""
    teachers: tuple[Path, ...]
    """Finished runs to learn from too."""
    output: Path | None
    """The run's folder; None: `runs/<name>`, with a number where that is taken."""
    resume: bool
    patience: int
    """Epochs without a better validation before it stops; 0: never, and the last epoch counts."""
    machine: Machine
    summary: str | None
    training_data: TrainingData
    store: Path | None
    """None: not published."""
    command: str


def train(options: TrainOptions) -> str:
    """Trains, evaluates and publishes; what to tell the person who waited for it.

    Raises ValidationError for a name that cannot be one, InvalidListing, RecipeError, FileExistsError for a run that
    is there already, FileNotFoundError for one to resume that is not, ModelRejected for a network that cannot be
    published.
    """
    TypeAdapter(Name).validate_python(options.name)
    lightning.seed_everything(options.seed, verbose=False)
    machine = options.machine
    asked = PlanOptions(
        options.data,
        options.cell,
        options.seed,
        machine.num_devices,
        options.teachers,
        machine.num_loaders,
    )
    recipe, plan = plan_training(options.task, options.recipe, options.settings, asked)
    if options.weights:
        plan.learner.start_from(options.weights)
    folder = _run_folder(options, recipe)
    compiled = Compiled(options.task, plan)
    fitted = fit(plan, folder, recipe.budget, options.patience, options.machine, options.resume)
    if fitted is None:  # another process goes on
        return ""
    model_bytes = compiled.save(fitted.learner.module(), folder)
    report = plan.evaluate(torchscript.load(model_bytes), folder)
    write_run(_run(options, plan, fitted, report), folder)
    told = f"\n{report.text}\n\nrun: {folder}"
    if options.store:
        told += f"\npublished: {publish(folder, options.store)}"
    return told


def _run_folder(options: TrainOptions, recipe: Recipe) -> Path:
    """The folder to train in, with the recipe in it."""
    folder = options.output or Path("runs") / options.name
    text = recipe_text(recipe)
    if options.resume:
        if not (folder / RECIPE).exists():
            raise FileNotFoundError(f"{folder} is not a run that could go on")
        if (folder / RECIPE).read_text(encoding="utf-8") != text:
            raise RecipeError(f"{folder} was begun with another recipe: {folder / RECIPE}")
    elif not int(os.environ.get("LOCAL_RANK", 0)):  # of several processes, the others do not write
        number = 2
        while folder.exists():
            if options.output:
                raise FileExistsError(f"{folder} is there already; --resume goes on with it")
            folder = Path("runs") / f"{options.name}-{number}"
            number += 1
        folder.mkdir(parents=True)
        (folder / RECIPE).write_text(text, encoding="utf-8")
    return folder


def _run(options: TrainOptions, plan: Plan, fitted: Fitted, report: Report) -> Run:
    return Run(
        name=options.name,
        task=options.task,
        summary=options.summary or plan.summary,
        cell=options.cell,
        settings=options.settings,
        seed=options.seed,
        command=options.command,
        date=datetime.datetime.now(datetime.UTC).date(),
        input=plan.input,
        output=plan.output,
        training_data=(options.training_data,),
        num_examples=plan.num_examples,
        num_parameters=sum(parameter.numel() for parameter in fitted.learner.network.parameters()),
        minutes=fitted.minutes,
        num_threads=torch.get_num_threads(),
        precision=fitted.precision,
        epochs=fitted.epochs,
        metrics=report.metrics,
        headline=plan.headline,
        report=report.text,
        limits=report.limits,
    )
