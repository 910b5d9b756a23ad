"""How a training goes, epoch by epoch: kept, told, drawn, and ended where it leads nowhere."""

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from trainer.recipe.reading import RecipeError
from trainer.run import Epoch, validated
from trainer.tasks.learner import RANK


class DivergedError(RecipeError):
    """The loss is NaN or infinite, and will stay so: its gradients are in the weights."""


class LearningCurve(Callback):
    """Keeps an Epoch for every validation and the last one, over resumes, and the time that it took to get there."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.epochs: list[Epoch] = []
        self.seconds = 0.0
        self._losses: list[torch.Tensor] = []
        self._started = 0.0

    def on_fit_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        stopping = trainer.early_stopping_callback
        if stopping is not None and stopping.stopped_epoch:  # gone on with, after it had come to its end
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self._losses = []
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        self._losses.append(outputs["loss"].detach())

    def on_validation_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self._loss(trainer)  # where it is no number, neither are the figures of a validation

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.seconds += time.monotonic() - self._started  # the epoch's validation is in it
        number = trainer.current_epoch + 1
        loss = self._loss(trainer)
        if number % self.every and number != trainer.max_epochs:
            return
        found: dict[str, float] = {}
        if number % self.every == 0:  # else what is there is of an earlier epoch
            found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
            found.pop(RANK, None)
            self._check("val_loss", found.get("val_loss", 0.0), number)  # the last step may have been one too far
        self.epochs.append(Epoch(epoch=number, train_loss=loss, validation=found))
        if trainer.is_global_zero and not sys.stderr.isatty():
            told = "".join(f", {name} {value:.4g}" for name, value in found.items())
            sys.stderr.write(f"epoch {number}/{trainer.max_epochs}, {self.seconds:.0f} s: loss {loss:.4g}{told}\n")

    def _loss(self, trainer: lightning.Trainer) -> float:
        """The mean of this epoch's, over processes. Raises DivergedError."""
        loss = float(trainer.strategy.reduce(torch.stack(self._losses).mean(), reduce_op="mean"))
        self._check("loss", loss, trainer.current_epoch + 1)
        return loss

    def _check(self, name: str, loss: float, epoch: int) -> None:
        if not math.isfinite(loss):
            raise DivergedError(f"the {name} became {loss} in epoch {epoch}: try a lower optimisation.learning_rate")

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "epochs": [epoch.model_dump() for epoch in self.epochs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]
        self.epochs = [Epoch.model_validate(epoch) for epoch in state_dict["epochs"]]


def draw_curve(epochs: Sequence[Epoch], path: Path) -> None:
    """Writes a PNG of the training loss and of each validation figure by epoch."""
    from matplotlib.figure import Figure  # a second to import, for this alone

    names = validated(epochs)
    numbers = [epoch.epoch for epoch in epochs]
    figure = Figure(figsize=(4 * (1 + len(names)), 4), layout="constrained")
    panels = figure.subplots(1, 1 + len(names), squeeze=False)[0]
    panels[0].plot(numbers, [epoch.train_loss for epoch in epochs])
    panels[0].set_title("training loss")
    for panel, name in zip(panels[1:], names, strict=True):
        found = [(epoch.epoch, epoch.validation[name]) for epoch in epochs if name in epoch.validation]
        panel.plot(*zip(*found, strict=True))
        panel.set_title(name.removeprefix("val_").replace("_", " ") + ", validation")
    for panel in panels:
        panel.set_xlabel("epoch")
    figure.savefig(path)
