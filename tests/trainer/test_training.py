"""Which epoch counts, on a network of one number that each epoch moves by one."""

from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from app.models.manifest import ClassifyOutput, Input
from trainer.data.workers import NoSpaceError
from trainer.learning_curve import DivergedError
from trainer.plan import Plan, Report
from trainer.recipe.reading import RecipeError
from trainer.recipe.sections import Budget, Optimisation
from trainer.tasks.clips import DrawSampler
from trainer.tasks.learner import Learner
from trainer.tasks.waveforms import AlikeBatches
from trainer.training import Machine, fit, undivided

RANKS = (0.1, 0.5, 0.4, 0.3, 0.2, 0.1)
MACHINE = Machine("cpu", 1, 1)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("epochs", torch.zeros(()))
        self.weight = nn.Parameter(torch.zeros(()))


class CountingLearner(Learner[Counts]):
    def __init__(self) -> None:
        super().__init__(
            Counts(),
            Optimisation(learning_rate=1e-3, weight_decay=0.0, warmup=0.1, max_gradient_norm=1.0, ema_decay=0.9),
        )

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        self.network.epochs += 1
        return (self.network.weight - 1.0) ** 2

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        self.log("val_loss", 1.0 - RANKS[self.current_epoch])
        self.log("val_rank", RANKS[self.current_epoch])


def make_plan(validated: bool = True) -> Plan:
    return Plan(
        learner=CountingLearner(),
        train=DataLoader([0.0]),
        val=DataLoader([0.0]) if validated else None,
        input=Input(media="audio", sample_rate=8000, max_samples=8000),
        output=ClassifyOutput(labels=("one", "two")),
        golden=(np.zeros((1, 8), np.float32), np.array([8])),
        summary="",
        num_examples={},
        kept_apart="file",
        headline="accuracy",
        evaluate=lambda module, folder: Report({}, "", ()),
    )


BUDGET = Budget(num_epochs=len(RANKS), batch_size=1)


def test_the_last_epoch_counts_where_theundivided_budget_is_spent(tmp_path: Path) -> None:
    fitted = fit(make_plan(), tmp_path, BUDGET, patience=0, machine=MACHINE, resume=False)

    assert fitted is not None
    assert fitted.learner.module().epochs == len(RANKS)
    assert [epoch.validation["val_loss"] for epoch in fitted.epochs] == pytest.approx([1 - rank for rank in RANKS])
    assert (tmp_path / "learning_curve.png").stat().st_size > 1000


def test_the_last_epoch_is_told_though_it_was_not_validated(tmp_path: Path) -> None:
    budget = BUDGET.model_copy(update={"validate_every": 4})

    fitted = fit(make_plan(), tmp_path, budget, patience=0, machine=MACHINE, resume=False)

    assert fitted is not None
    assert [(epoch.epoch, list(epoch.validation)) for epoch in fitted.epochs] == [(4, ["val_loss"]), (6, [])]
    assert (tmp_path / "learning_curve.png").stat().st_size > 1000


def test_with_patience_it_stops_and_the_best_epoch_counts(tmp_path: Path) -> None:
    fitted = fit(make_plan(), tmp_path, BUDGET, patience=2, machine=MACHINE, resume=False)

    assert fitted is not None
    assert len(fitted.epochs) == 4
    assert fitted.kept_epoch == 2
    assert fitted.learner.module().epochs == 2


def test_patience_is_never_shorter_than_asked_for(tmp_path: Path) -> None:
    budget = BUDGET.model_copy(update={"validate_every": 2})  # 0.5, 0.3, 0.1

    fitted = fit(make_plan(), tmp_path, budget, patience=3, machine=MACHINE, resume=False)

    assert fitted is not None
    assert [epoch.epoch for epoch in fitted.epochs] == [2, 4, 6]


@pytest.mark.parametrize("every", [1, 2])
def test_a_run_that_stopped_early_is_over_where_it_is_gone_on_with(tmp_path: Path, every: int) -> None:
    budget = BUDGET.model_copy(update={"validate_every": every})
    first, again = (
        fit(make_plan(), tmp_path, budget, patience=2, machine=MACHINE, resume=resume) for resume in (False, True)
    )

    assert first is not None
    assert again is not None
    assert again.epochs == first.epochs
    assert again.kept_epoch == first.kept_epoch == 2


def test_a_resumed_run_without_its_best_epoch_says_so(tmp_path: Path) -> None:
    fit(make_plan(), tmp_path, BUDGET, patience=2, machine=MACHINE, resume=False)
    (tmp_path / "checkpoints/best.ckpt").unlink()

    with pytest.raises(FileNotFoundError, match=r"best\.ckpt is missing"):
        fit(make_plan(), tmp_path, BUDGET, patience=2, machine=MACHINE, resume=True)


class DivergingLearner(CountingLearner):
    """Its loss is a number in the first two epochs."""

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        loss = super().training_step(batch, batch_index)
        return loss * torch.nan if self.current_epoch >= 2 else loss


def test_a_loss_that_is_no_number_ends_it(tmp_path: Path) -> None:
    learner = DivergingLearner()

    with pytest.raises(DivergedError, match=r"became nan in epoch 3: try a lower optimisation\.learning_rate"):
        fit(replace(make_plan(), learner=learner), tmp_path, BUDGET, patience=0, machine=MACHINE, resume=False)

    assert learner.network.epochs == 3
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 1  # the second


def test_weights_that_the_last_step_ruined_are_found_in_validation(tmp_path: Path) -> None:
    learner = CountingLearner()
    learner.validation_step = lambda *_: learner.log_dict({"val_loss": torch.nan, "val_rank": 0.0})  # type: ignore[method-assign]

    with pytest.raises(DivergedError, match=r"val_loss became nan in epoch 1: try a lower optimisation\.learning_rate"):
        fit(replace(make_plan(), learner=learner), tmp_path, BUDGET, patience=0, machine=MACHINE, resume=False)


def test_a_full_disk_leaves_the_last_checkpointundivided(tmp_path: Path) -> None:
    fit(make_plan(), tmp_path, Budget(num_epochs=1, batch_size=1), patience=0, machine=MACHINE, resume=False)
    (tmp_path / "checkpoints/last.partial").symlink_to("/dev/full")

    with pytest.raises(NoSpaceError, match=r"last\.ckpt has no room: make some, then --resume goes on"):
        fit(make_plan(), tmp_path, BUDGET, patience=0, machine=MACHINE, resume=True)
    fitted = fit(make_plan(), tmp_path, BUDGET, patience=0, machine=MACHINE, resume=True)

    assert fitted is not None
    assert [epoch.epoch for epoch in fitted.epochs] == [1, 2, 3, 4, 5, 6]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.filterwarnings("ignore:Total length of")
def test_fewer_examples_than_a_batch_are_told(tmp_path: Path) -> None:
    plan = replace(make_plan(), train=DataLoader([0.0], batch_size=2, drop_last=True))

    with pytest.raises(RecipeError, match="fewer examples than one batch holds"):
        fit(plan, tmp_path, BUDGET, patience=0, machine=MACHINE, resume=False)


def test_every_one_of_several_processes_validates_on_each_example_once() -> None:
    loader = undivided(DataLoader(torch.arange(5), batch_size=2))

    assert isinstance(loader.sampler, DistributedSampler)  # or Lightning would put another in its place
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4]]


def test_more_gpus_than_there_are_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"--accelerator gpu --devices 1000: this machine has \d+;"):
        Machine("gpu", 1000).check()
    Machine("cpu", 1000).check()


class Draws(Dataset[float]):
    """The numbers of its draws."""

    def __getitem__(self, draw: int) -> float:
        return float(draw)


class DrawingLearner(CountingLearner):
    """Learns numbers drawn at random, and remembers them beside those of its clips."""

    def __init__(self, stop_before: int | None = None) -> None:
        super().__init__()
        self.stop_before = stop_before
        self.drawn: list[tuple[list[float], float]] = []

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        if self.current_epoch == self.stop_before:
            raise InterruptedError
        number = float(torch.rand(()))
        self.drawn.append((batch.tolist(), number))
        return (self.network.weight - number) ** 2


@pytest.mark.parametrize("num_loaders", [0, 1])
def test_a_resumed_run_comes_to_what_it_would_have_come_to(tmp_path: Path, num_loaders: int) -> None:
    def run(folder: str, learner: DrawingLearner, resume: bool = False) -> DrawingLearner:
        lightning.seed_everything(3, verbose=False)
        batches = AlikeBatches(DrawSampler(4, seed=3), [1] * 4, 2)
        train = DataLoader(Draws(), batch_sampler=batches, num_workers=num_loaders)
        plan = replace(make_plan(), learner=learner, train=train)
        fit(plan, tmp_path / folder, BUDGET, patience=0, machine=MACHINE, resume=resume)
        return learner

    straight = run("straight", DrawingLearner())
    with pytest.raises(InterruptedError):
        run("stopped", DrawingLearner(stop_before=3))
    resumed = run("stopped", DrawingLearner(), resume=True)

    assert resumed.drawn == straight.drawn[6:]
    assert len({number for _, number in straight.drawn}) == 2 * len(RANKS)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_no_two_processes_or_seeds_draw_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = set()
    for seed, rank in ((0, 0), (0, 1), (1, 0)):
        monkeypatch.setattr(DrawingLearner, "global_rank", rank)
        lightning.seed_everything(seed, verbose=False)
        learner = DrawingLearner()
        learner.on_fit_start()
        learner.on_train_batch_start(None, 0)
        drawn.add(float(torch.rand(())))

    assert len(drawn) == 3


def test_patience_needs_validation(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--patience needs a validation set"):
        fit(make_plan(validated=False), tmp_path, BUDGET, patience=2, machine=MACHINE, resume=False)


def test_the_average_is_what_is_published(tmp_path: Path) -> None:
    fitted = fit(make_plan(), tmp_path, BUDGET, patience=0, machine=MACHINE, resume=False)

    assert fitted is not None
    average, last = fitted.learner.module().weight, fitted.learner.network.weight
    assert 0 < average.item() < last.item()
