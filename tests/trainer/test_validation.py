"""What a validation says depends on the weights and the examples, and on nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from trainer.recipe.features import FeaturesRecipe
from trainer.recipe.flow import FlowRecipe
from trainer.recipe.listen import ListenRecipe
from trainer.recipe.reading import RECIPES, read_recipe
from trainer.tasks.features import FeaturesTask
from trainer.tasks.flow import FlowTask
from trainer.tasks.listen import ListenTask

LENGTHS = torch.tensor([16_000, 12_000, 9_000])
LABELS = torch.tensor([0, 1, 0])
SMALL_SOUND = ("network.num_channels=[4, 8]", "network.size=16", "network.recurrent_size=8")


def features() -> tuple[FeaturesTask, Any]:
    task = FeaturesTask(read_recipe(RECIPES / "audio-features.yaml", (), FeaturesRecipe), "gru")
    return task, (torch.randn(3, 16_000), LENGTHS, LABELS)


def listen() -> tuple[ListenTask, Any]:
    task = ListenTask(read_recipe(RECIPES / "digits.yaml", SMALL_SOUND, ListenRecipe), "gru", [2, 2])
    return task, (torch.randn(3, 16_000), LENGTHS, LABELS, torch.arange(3))


def flow() -> tuple[FlowTask, Any]:
    task = FlowTask(read_recipe(RECIPES / "fight.yaml", (), FlowRecipe), "gru", [2, 2])
    return task, (torch.randn(3, 40, task.network.boundaries.size), torch.tensor([40, 30, 8]), LABELS)


@pytest.mark.parametrize("make", [features, listen, flow])
@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_it_is_the_same_again_and_in_any_precision(make: Callable[[], tuple[Any, Any]], tmp_path: Path) -> None:
    """To the bit: the service answers in float32, whatever a training multiplies in."""
    torch.manual_seed(0)
    task, batch = make()
    losses = []
    for precision in ("32-true", "32-true", "bf16-mixed"):
        trainer = lightning.Trainer(
            accelerator="cpu", precision=precision, logger=False, enable_progress_bar=False, default_root_dir=tmp_path
        )
        (found,) = trainer.validate(task, torch.utils.data.DataLoader([batch], batch_size=None), verbose=False)
        losses.append(found["val_loss"])
    assert len(set(losses)) == 1
