"""Lightning's training loop around a task: when it stops, what it keeps, what it says."""

import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, DistributedSampler

from app.models.precision import has_bfloat16
from trainer.checkpoints import WholeCheckpoints, keepers, load_weights
from trainer.learning_curve import LearningCurve, draw_curve
from trainer.plan import Plan
from trainer.recipe.reading import RecipeError
from trainer.recipe.sections import Budget
from trainer.run import Epoch
from trainer.tasks.clips import DrawSampler
from trainer.tasks.learner import Learner

NARROWER = "try a lower budget.batch_size, then smaller pictures or shorter clips"
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
    val = undivided(plan.val) if plan.val is not None and machine.num_devices > 1 else plan.val
    checkpoints = folder / "checkpoints"
    with _quiet():
        trainer = _trainer(
            folder, budget, machine, [curve, *keepers(checkpoints, patience, _every(budget)), *callbacks]
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


def undivided(loader: DataLoader[Any]) -> DataLoader[Any]:
    """All of it for each of several processes: Lightning would share it out, and repeat some to have equal shares."""
    sampler: DistributedSampler[Any] = DistributedSampler(loader.dataset, num_replicas=1, rank=0, shuffle=False)
    return DataLoader(loader.dataset, loader.batch_size, sampler=sampler, collate_fn=loader.collate_fn)


def _set_epoch(loader: DataLoader[Any], epoch: int) -> None:
    """Lightning does so as well, but where a run is resumed the loader may have drawn its first batches by then."""
    for sampler in (loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
        if isinstance(sampler, DrawSampler):
            sampler.set_epoch(epoch)


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
