"""Lightning's training loop around a task: when it stops, what it keeps, what it says."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from trainer.data.cache import CachedVideo
from trainer.recipe import Recipe
from trainer.run import Epoch
from trainer.tasks.classify import ClassifyTask
from trainer.tasks.clips import Clip, DrawSampler, ServedClips, TrainingClips

WATCHED = "val_rank"
"""Chosen by and stopped by: accuracy, and the loss among equals. Not the loss alone: where there is little to learn
from, it is lowest for a network that has learnt nothing and says 50 %."""
LOSS_IN_RANK = 1e-3
"""Small beside one video of a small validation set."""
LIGHTNING_WARNINGS = (
    r".*does not have many workers which may be a bottleneck.*",  # clips are views of mapped memory: nothing to load
    r".*Checkpoint directory .* exists and is not empty.*",  # when a run is resumed
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 with torch 2.13
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on."""

    accelerator: str = "auto"
    num_devices: int = 1
    num_threads: int | None = None
    """Of torch, in each process; None: as many as cores."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training came to."""

    task: ClassifyTask
    """With the weights of its best epoch."""
    epochs: tuple[Epoch, ...]
    minutes: float
    precision: str


class LearningCurve(Callback):
    """Keeps an Epoch for every validation, over resumes, with the time that it took to get there."""

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.seconds = 0.0
        self._losses: list[torch.Tensor] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self._losses = []
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        self._losses.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.seconds += time.monotonic() - self._started  # the epoch's validation is in it

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        epoch = Epoch(
            epoch=trainer.current_epoch + 1,
            train_loss=float(torch.stack(self._losses).mean()),
            val_loss=float(trainer.callback_metrics["val_loss"]),
            val_accuracy=float(trainer.callback_metrics["val_accuracy"]),
        )
        self.epochs.append(epoch)
        trainer.callback_metrics[WATCHED] = torch.tensor(epoch.val_accuracy - LOSS_IN_RANK * epoch.val_loss)
        if trainer.is_global_zero and not sys.stderr.isatty():
            sys.stderr.write(
                f"epoch {epoch.epoch}/{trainer.max_epochs}, {self._so_far():.0f} s: loss {epoch.train_loss:.3f}, "
                f"validation loss {epoch.val_loss:.3f}, accuracy {epoch.val_accuracy:.3f}\n"
            )

    def _so_far(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "epochs": [epoch.model_dump() for epoch in self.epochs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]
        self.epochs = [Epoch.model_validate(epoch) for epoch in state_dict["epochs"]]


def fit(
    task: ClassifyTask,
    train: Sequence[CachedVideo],
    val: Sequence[CachedVideo],
    folder: Path,
    seed: int,
    patience: int,
    machine: Machine,
    resume: bool,
) -> Fitted | None:
    """The task trained; checkpoints, learning curve and logs are in `folder`.

    `patience`: epochs without a better validation before it stops; 0: the whole budget. `resume`: from the last
    epoch that ended. None in all but the first of several processes.
    """
    recipe = task.recipe
    if machine.num_threads:
        torch.set_num_threads(machine.num_threads)
    curve = LearningCurve()
    checkpoints = ModelCheckpoint(
        folder / "checkpoints", "best", WATCHED, mode="max", save_last=True, enable_version_counter=False
    )
    precision = _precision(recipe, machine)
    batch_size = max(1, recipe.budget.batch_size // machine.num_devices)
    last = folder / "checkpoints" / "last.ckpt"
    with _quiet():
        trainer = lightning.Trainer(
            accelerator=machine.accelerator,
            devices=machine.num_devices,
            # A step that starts from a carried state leaves the output of `so_far` without a gradient.
            strategy="ddp_find_unused_parameters_true" if machine.num_devices > 1 else "auto",
            precision=precision,
            max_epochs=recipe.budget.num_epochs,
            check_val_every_n_epoch=min(recipe.budget.validate_every, recipe.budget.num_epochs),
            callbacks=[
                curve,
                checkpoints,
                *(
                    [EarlyStopping(WATCHED, mode="max", patience=max(1, patience // recipe.budget.validate_every))]
                    if patience
                    else []
                ),
            ],
            logger=CSVLogger(folder, name="logs"),
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(
            task,
            _training_loader(train, recipe, seed, batch_size),
            DataLoader[Clip](ServedClips(val), batch_size=batch_size),
            ckpt_path=last if resume and last.exists() else None,
        )
    if not trainer.is_global_zero:
        return None
    load_weights(task, folder)
    draw_curve(curve.epochs, folder / "learning_curve.png")
    return Fitted(task, tuple(curve.epochs), curve.seconds / 60, precision)


def load_weights(task: ClassifyTask, folder: Path) -> None:
    """Puts the best checkpoint of the run in `folder` into `task`. Raises FileNotFoundError."""
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)
    task.load_state_dict(checkpoint["state_dict"])


def draw_curve(epochs: Sequence[Epoch], path: Path) -> None:
    """Writes a PNG of losses and validation accuracy by epoch."""
    from matplotlib.figure import Figure  # a second to import, for this alone

    figure = Figure(figsize=(8, 4), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    numbers = [epoch.epoch for epoch in epochs]
    losses.plot(numbers, [epoch.train_loss for epoch in epochs], label="training loss")
    losses.plot(numbers, [epoch.val_loss for epoch in epochs], label="validation loss")
    losses.legend()
    accuracy.plot(numbers, [epoch.val_accuracy for epoch in epochs], label="validation accuracy")
    accuracy.set_ylim(0, 1)
    accuracy.legend()
    for axes in (losses, accuracy):
        axes.set_xlabel("epoch")
    figure.savefig(path)


def _training_loader(videos: Sequence[CachedVideo], recipe: Recipe, seed: int, batch_size: int) -> DataLoader[Clip]:
    # A last batch of one or two clips would move the weights as far as a full one.
    drop_last = len(videos) >= 2 * batch_size
    clips = TrainingClips(videos, recipe, seed)
    return DataLoader(clips, batch_size=batch_size, sampler=DrawSampler(len(videos), seed), drop_last=drop_last)


def _precision(recipe: Recipe, machine: Machine) -> Literal["bf16-mixed", "32-true"]:
    if recipe.budget.precision != "auto":
        return recipe.budget.precision
    if machine.accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    # Without instructions for it, bfloat16 is emulated: many times slower (pytorch#118499).
    found = torch.cpu.get_capabilities()
    return "bf16-mixed" if found.get("amx_bf16") or found.get("avx512_bf16") else "32-true"


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its advertisements and the warnings that do not apply."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in LIGHTNING_WARNINGS:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)
