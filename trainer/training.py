"""Lightning's training loop around a task: when it stops, what it keeps, what it says."""

import io
import logging
import math
import signal
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
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader, DistributedSampler

from app.models.precision import has_bfloat16
from trainer.data.workers import FULL, NoSpaceError
from trainer.plan import Plan
from trainer.recipe.reading import RecipeError
from trainer.recipe.sections import Budget
from trainer.run import Epoch, validated
from trainer.tasks.clips import DrawSampler
from trainer.tasks.learner import Learner

NARROWER = "try a lower budget.batch_size, then smaller pictures or shorter clips"
RANK = "val_rank"
"""What a learner logs for the best epoch to be chosen by."""
LIGHTNING_WARNINGS = (
    r".*does not have many workers which may be a bottleneck.*",  # clips are views of mapped memory: nothing to load
    r".*Checkpoint directory .* exists and is not empty.*",  # when a run is resumed
    r"You defined a `validation_step` but have no `val_dataloader`.*",  # all videos are trained on
    r"Found \d+ module\(s\) in eval mode at the start of training.*",  # a describer's camera, which learns nothing
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 with torch 2.13
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training runs on."""

    accelerator: str = "auto"
    num_devices: int = 1
    num_threads: int | None = None
    """Of torch, in each process; None: as many as cores."""
    num_loaders: int = 0
    """Processes that draw generated clips beside each training; 0: it draws its own, and waits."""

    def check(self) -> None:
        """Raises RecipeError where there are fewer GPUs than asked for."""
        num_mps = int(torch.backends.mps.is_available())
        num_gpus = torch.cuda.device_count() or num_mps
        found = {"gpu": num_gpus, "mps": num_mps, "auto": num_gpus or self.num_devices}
        if self.num_devices > (there := found.get(self.accelerator, self.num_devices)):
            wanted = f"--accelerator {self.accelerator} --devices {self.num_devices}"
            raise RecipeError(f"{wanted}: this machine has {there}; ask for fewer, or --accelerator cpu")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a training came to."""

    learner: Learner[Any]
    """With the weights that count."""
    epochs: tuple[Epoch, ...]
    minutes: float
    precision: str
    kept_epoch: int
    """Whose weights count."""


class DivergedError(RecipeError):
    """The loss is NaN or infinite, and will stay so: its gradients are in the weights."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, so that the one before it survives a full disk.

    Lightning's own writes to the folder of temporary files first; where that is on another disk, it then copies over
    the last checkpoint, and leaves half of one if there is no room.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises NoSpaceError."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content.getbuffer())
            partial.replace(path)
        except OSError as error:
            if error.errno in FULL:
                raise NoSpaceError(f"{path} has no room: make some, then --resume goes on with the run") from error
            raise
        finally:
            partial.unlink(missing_ok=True)


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


def fit(
    plan: Plan,
    folder: Path,
    budget: Budget,
    patience: int,
    machine: Machine,
    resume: bool,
    callbacks: Sequence[Callback] = (),
    advice: str | None = None,
) -> Fitted | None:
    """The plan's learner trained; checkpoints, learning curve and logs are in `folder`.

    `patience`: epochs without a better validation before it stops, and the best one counts; 0: the whole budget, and
    the last one counts, so that validation has chosen nothing. `resume`: from the last epoch that ended, as if it had
    not stopped, but for states that clips would have left for later ones. `advice`: for who stops it; None: to resume
    it. None in all but the first of several processes. Raises RecipeError where nothing says when to stop,
    DivergedError.
    """
    if patience and plan.val is None:
        raise RecipeError("--patience needs a validation set to judge epochs by")
    if machine.num_threads:
        torch.set_num_threads(machine.num_threads)
    curve = LearningCurve(_every(budget))
    val = _whole(plan.val) if plan.val is not None and machine.num_devices > 1 else plan.val
    checkpoints = folder / "checkpoints"
    with _quiet():
        trainer = _trainer(
            folder, budget, machine, [curve, *_keepers(checkpoints, patience, _every(budget)), *callbacks]
        )
        last = checkpoints / "last.ckpt"
        goes_on = resume and last.exists()
        if goes_on:
            _set_epoch(plan.train, torch.load(last, map_location="cpu", weights_only=True)["epoch"] + 1)
        try:
            trainer.fit(plan.learner, plan.train, val, ckpt_path=last if goes_on else None)
        except SystemExit as stop:  # Lightning's way to end at Ctrl-C, with status 1, and at SIGTERM, with 0
            if trainer.is_global_zero:
                ended = trainer.current_epoch
                told = advice or f"--output {folder} --resume goes on with it"
                sys.stderr.write(f"stopped after epoch {ended}: {told}\n")
            raise SystemExit(stop.code or 128 + signal.SIGTERM) from None
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise RecipeError(f"a batch needs more memory than there is: {NARROWER}") from error
            raise
    if not trainer.is_global_zero:
        return None
    kept = load_weights(plan.learner, checkpoints / ("best.ckpt" if patience else "last.ckpt"))
    draw_curve(curve.epochs, folder / "learning_curve.png")
    return Fitted(plan.learner, tuple(curve.epochs), curve.seconds / 60, _precision(budget, machine), kept)


def _trainer(folder: Path, budget: Budget, machine: Machine, callbacks: list[Callback]) -> lightning.Trainer:
    return lightning.Trainer(
        accelerator=machine.accelerator,
        devices=machine.num_devices,
        # A step may leave an output without a gradient: a classifier's `so_far` from a carried state.
        strategy="ddp_find_unused_parameters_true" if machine.num_devices > 1 else "auto",
        precision=_precision(budget, machine),
        max_epochs=budget.num_epochs,
        check_val_every_n_epoch=_every(budget),
        callbacks=callbacks,
        logger=CSVLogger(folder, name="logs"),
        log_every_n_steps=1,
        plugins=[WholeCheckpoints()],
        num_sanity_val_steps=0,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _every(budget: Budget) -> int:
    """Epochs from one validation to the next."""
    return min(budget.validate_every, budget.num_epochs)


def _keepers(checkpoints: Path, patience: int, every: int) -> list[Callback]:
    """What keeps the last epoch and, where training may stop early, the best one."""
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    if not patience:
        return [last]
    best = ModelCheckpoint(checkpoints, "best", RANK, mode="max", enable_version_counter=False)
    return [last, best, EarlyStopping(RANK, mode="max", patience=math.ceil(patience / every))]


def _whole(loader: DataLoader[Any]) -> DataLoader[Any]:
    """All of it for each of several processes: Lightning would share it out, and repeat some to have equal shares."""
    sampler: DistributedSampler[Any] = DistributedSampler(loader.dataset, num_replicas=1, rank=0, shuffle=False)
    return DataLoader(loader.dataset, loader.batch_size, sampler=sampler, collate_fn=loader.collate_fn)


def _set_epoch(loader: DataLoader[Any], epoch: int) -> None:
    """Lightning does so as well, but where a run is resumed the loader may have drawn its first batches by then."""
    for sampler in (loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
        if isinstance(sampler, DrawSampler):
            sampler.set_epoch(epoch)


def load_weights(learner: Learner[Any], checkpoint: Path) -> int:
    """Puts a checkpoint's weights into `learner`; the epoch that they are of. Raises FileNotFoundError."""
    if not checkpoint.exists():
        raise FileNotFoundError(f"{checkpoint} is missing, which holds the weights of this run: begin another run")
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    learner.load_state_dict(kept["state_dict"])
    return int(kept["epoch"]) + 1


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


def _precision(budget: Budget, machine: Machine) -> Literal["bf16-mixed", "32-true"]:
    if budget.precision != "auto":
        return budget.precision
    on_gpu = machine.accelerator != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if has_bfloat16(torch.device("cuda" if on_gpu else "cpu")) else "32-true"


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
