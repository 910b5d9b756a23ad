"""Which epoch counts, on a network of one number that each epoch moves by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from app.models.manifest import ClassifyOutput, Input
from trainer.plan import Plan, Report
from trainer.recipe.reading import RecipeError
from trainer.recipe.sections import Budget, Optimisation
from trainer.tasks.learner import Learner
from trainer.training import Machine, fit

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
        headline="accuracy",
        evaluate=lambda module, folder: Report({}, "", ()),
    )


BUDGET = Budget(num_epochs=len(RANKS), batch_size=1)


def test_the_last_epoch_counts_where_the_whole_budget_is_spent(tmp_path: Path) -> None:
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
    assert fitted.learner.module().epochs == 2


def test_patience_needs_validation(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing says when to stop"):
        fit(make_plan(validated=False), tmp_path, BUDGET, patience=2, machine=MACHINE, resume=False)


def test_the_average_is_what_is_published(tmp_path: Path) -> None:
    fitted = fit(make_plan(), tmp_path, BUDGET, patience=0, machine=MACHINE, resume=False)

    assert fitted is not None
    average, last = fitted.learner.module().weight, fitted.learner.network.weight
    assert 0 < average.item() < last.item()
