"""`train classify`: from a folder of videos to a version in the model store."""

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning
import torch
from pydantic import TypeAdapter

from app.models import torchscript
from app.models.manifest import Input, Name, TrainingData
from trainer.card import results
from trainer.data.listing import InvalidListing, Split
from trainer.data.prepare import DataOptions, DataSet, cache_spec, decode_data, list_videos
from trainer.data.splits import split_by_group
from trainer.metrics import Evaluation, measure, write_predictions
from trainer.publish import compile_network, publish, save_compiled
from trainer.recipe import Recipe, RecipeError, read_recipe
from trainer.run import RECIPE, Run, recipe_text, write_run
from trainer.tasks.classify import ClassifyTask
from trainer.training import Fitted, Machine, fit


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One `train classify`."""

    name: str
    data: DataOptions
    recipe: Path
    settings: tuple[str, ...]
    """`section.key=value`, instead of the recipe's."""
    cell: Literal["lstm", "gru"]
    seed: int
    output: Path | None
    """The run's folder; None: `runs/<name>`, with a number where that is taken."""
    resume: bool
    patience: int
    """Epochs without a better validation before it stops; 0: never."""
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
    recipe = read_recipe(options.recipe, options.settings)
    videos = split_by_group(list_videos(options.data), options.data.val_fraction, options.data.test_fraction)
    folder = _run_folder(options, recipe)
    data = decode_data(videos, cache_spec(recipe), options.data)
    train_videos, val_videos = data.opened("train"), data.opened("val")
    if not train_videos or not val_videos:
        raise InvalidListing(f"{len(train_videos)} videos to train on and {len(val_videos)} to validate with are left")

    lightning.seed_everything(options.seed, verbose=False)
    counts = [sum(video.label == index for video in train_videos) for index in range(len(data.labels))]
    task = ClassifyTask(recipe, options.cell, counts)
    size = (recipe.input.width, recipe.input.height)
    scripted = compile_network(task.module(), *size)
    fitted = fit(
        task,
        train_videos,
        val_videos,
        folder,
        seed=options.seed,
        patience=options.patience,
        machine=options.machine,
        resume=options.resume,
    )
    if fitted is None:  # another process goes on
        return ""
    model_bytes = save_compiled(task.module(), scripted, *size, folder)
    run = _run(options, data, fitted, _evaluations(torchscript.load(model_bytes), data, folder))
    write_run(run, folder)
    told = f"\n{results(run.evaluations, run.labels)}\n\nrun: {folder}"
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


def _evaluations(module: torch.jit.ScriptModule, data: DataSet, folder: Path) -> dict[str, Evaluation]:
    """The compiled network on `val` and, this once, on `test`; each answer is written down in the run's folder."""
    evaluations: dict[str, Evaluation] = {}
    splits: tuple[Split, ...] = ("val", "test")
    for split in splits:
        if videos := data.opened(split):
            evaluations[split], scores = measure(module, videos, len(data.labels))
            write_predictions(folder / f"predictions_{split}.csv", videos, scores, data.labels)
    return evaluations


def _run(options: TrainOptions, data: DataSet, fitted: Fitted, evaluations: dict[str, Evaluation]) -> Run:
    recipe = fitted.task.recipe
    return Run(
        name=options.name,
        task="classify",
        summary=options.summary or f"Tells {', '.join(data.labels[:-1])} and {data.labels[-1]} apart in video.",
        cell=options.cell,
        settings=options.settings,
        seed=options.seed,
        command=options.command,
        date=datetime.datetime.now(datetime.UTC).date(),
        labels=data.labels,
        input=Input(
            media="video",
            width=recipe.input.width,
            height=recipe.input.height,
            fit=recipe.input.fit,
            sampling="uniform",
            clip_length=recipe.input.clip_length,
            rate=recipe.input.rate,
        ),
        training_data=(options.training_data,),
        num_videos=data.num_videos(),
        num_parameters=sum(parameter.numel() for parameter in fitted.task.network.parameters()),
        minutes=fitted.minutes,
        num_threads=torch.get_num_threads(),
        precision=fitted.precision,
        epochs=fitted.epochs,
        evaluations=evaluations,
    )
