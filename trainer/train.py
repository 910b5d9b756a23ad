"""`train TASK`: from a folder of media to a version in the model store."""

import datetime
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning
import torch

from app.models import torchscript
from app.models.manifest import Task, TrainingData
from trainer.begun import Begun, begin, go_on, read_begun
from trainer.data.prepare import DataOptions
from trainer.plan import Plan, PlanOptions, Report
from trainer.plans import plan_training
from trainer.publish import Compiled, check_place, publish
from trainer.recipe.reading import recipe_text
from trainer.recipe.sections import Recipe
from trainer.run import Run, write_run
from trainer.training import Fitted, Machine, fit


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained, on what."""

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
    machine: Machine

    def plan(self) -> tuple[Recipe, Plan]:
        """Ready to begin, the random numbers of this process seeded. Raises InvalidListing, RecipeError."""
        self.machine.check()
        lightning.seed_everything(self.seed, verbose=False)
        asked = PlanOptions(
            self.data, self.cell, self.seed, self.machine.num_devices, self.teachers, self.machine.num_loaders
        )
        recipe, plan = plan_training(self.task, self.recipe, self.settings, asked)
        if self.weights:
            plan.learner.start_from(self.weights)
        return recipe, plan

    def begun(self, recipe: Recipe, plan: Plan, patience: int, command: str | None) -> Begun:
        """What makes a training with that recipe and plan the one it is."""
        data = self.data
        return Begun(
            task=self.task,
            name=self.name,
            recipe=recipe_text(recipe),
            cell=self.cell,
            seed=self.seed,
            data=str(data.data.resolve()),
            test_data=str(data.test_data.resolve()) if data.test_data else None,
            group_pattern=data.group_pattern,
            val_fraction=data.val_fraction,
            test_fraction=data.test_fraction,
            weights=str(self.weights.resolve()) if self.weights else None,
            teachers=tuple(str(teacher.resolve()) for teacher in self.teachers),
            patience=patience,
            num_devices=self.machine.num_devices,
            num_examples=plan.num_examples,
            output=plan.output,
            command=command,
        )


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """One `train TASK`."""

    training: Training
    output: Path | None
    """The run's folder; None: `runs/<name>`, with a number where that is taken."""
    resume: bool
    patience: int
    """Epochs without a better validation before it stops; 0: never, and the last epoch counts."""
    summary: str | None
    training_data: TrainingData
    store: Path | None
    """None: not published."""
    command: str


def train(options: TrainOptions) -> str:
    """Trains, evaluates and publishes; what to tell the person who waited for it.

    Raises InvalidListing, RecipeError, FileExistsError for a run that is there already or finished, FileNotFoundError
    for one to resume that is not, ModelRejected for a network or a name that cannot be published, OSError for a store
    that cannot be written to.
    """
    training = options.training
    if options.store:
        check_place(options.store, training.name, training.task)
    recipe, plan = training.plan()
    begun = training.begun(recipe, plan, options.patience, options.command)
    folder = go_on(options.output, begun) if options.resume else begin(options.output, begun)
    compiled = Compiled(training.task, plan)
    fitted = fit(plan, folder, recipe.budget, options.patience, training.machine, options.resume)
    if fitted is None:  # another process goes on
        return ""
    try:
        network = fitted.learner.module()
        plan.finish(network)
        model_bytes = compiled.save(network, folder)
        report = plan.evaluate(torchscript.load(model_bytes), folder)
        command = read_begun(folder).command or options.command  # with --resume alone, it would not work
        write_run(_run(options, command, recipe, plan, fitted, report), folder)
    except KeyboardInterrupt:
        sys.stderr.write(f"stopped after training: --output {folder} --resume goes on with it\n")
        raise
    told = f"\n{report.text}\n\nrun: {folder}"
    if options.store:
        try:
            told += f"\npublished: {publish(folder, options.store)}"
        except OSError:  # what is trained is kept
            sys.stderr.write(f"{told}\nnot published: `python -m trainer publish --run {folder}` tries again\n")
            raise
    return told


def _options(options: TrainOptions, recipe: Recipe) -> tuple[str, ...]:
    """What else of the command changes what is learnt; the recipe with its digest, for it may be edited in place."""
    training = options.training
    digest = hashlib.sha256(recipe_text(recipe).encode()).hexdigest()
    data = training.data
    given = {
        "test-fraction": data.test_fraction,
        "test-data": data.test_data,
        "group-pattern": data.group_pattern,
        "weights": training.weights,
        "teachers": " ".join(map(str, training.teachers)),
        "patience": options.patience,
        "devices": training.machine.num_devices if training.machine.num_devices > 1 else 0,
    }
    return (
        f"recipe={training.recipe.stem} {digest[:8]}",
        f"val-fraction={data.val_fraction:g}",
        *(f"{name}={value}" for name, value in given.items() if value),
    )


def _flattered(options: TrainOptions) -> Iterator[str]:
    """Why figures may be too good, in sentences for the card."""
    if options.training.teachers or options.training.weights:
        yield (
            "It began with other weights or learnt from teachers: that none of what they learnt from is in its own "
            "validation or test set was not checked."
        )
    if options.patience:  # decision 12
        yield "Which epoch counts was chosen on `val`: its figures there are too good."


def _run(options: TrainOptions, command: str, recipe: Recipe, plan: Plan, fitted: Fitted, report: Report) -> Run:
    training = options.training
    return Run(
        name=training.name,
        task=training.task,
        summary=options.summary or plan.summary,
        cell=training.cell,
        settings=training.settings,
        options=_options(options, recipe),
        seed=training.seed,
        command=command,
        date=datetime.datetime.now(datetime.UTC).date(),
        input=plan.input,
        output=plan.output,
        training_data=(options.training_data,),
        num_examples=plan.num_examples,
        kept_apart=plan.kept_apart,
        num_parameters=sum(parameter.numel() for parameter in fitted.learner.network.parameters()),
        minutes=fitted.minutes,
        num_threads=torch.get_num_threads(),
        num_processes=training.machine.num_devices,
        precision=fitted.precision,
        epochs=fitted.epochs,
        kept_epoch=fitted.kept_epoch,
        metrics=report.metrics,
        headline=plan.headline,
        report=report.text,
        limits=(*report.limits, *_flattered(options)),
    )
