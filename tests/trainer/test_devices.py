"""Learning where the network is. Without another device, as far as it can be seen on the processor.

What a step draws without saying where lands on PyTorch's default device. Here that is `meta`, which nothing can be
computed with: a step that forgets to say comes to an error, or to a loss without a value.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from app.models import torchscript
from trainer.recipe.classify import ClassifyRecipe
from trainer.recipe.features import FeaturesRecipe
from trainer.recipe.listen import ListenRecipe
from trainer.recipe.predict import PredictRecipe
from trainer.recipe.reading import RECIPES, read_recipe
from trainer.tasks.classify import ClassifyTask
from trainer.tasks.features import FeaturesTask
from trainer.tasks.learner import Learner
from trainer.tasks.listen import ListenTask
from trainer.tasks.predict import PredictTask
from trainer.tasks.teachers import ListeningTeachers, Teachers

WAVEFORMS = (torch.randn(4, 8000), torch.tensor([8000, 8000, 6000, 4000]), torch.tensor([0, 1, 0, 1]))
CLIPS = (
    torch.randint(0, 256, (4, 8, 24, 32, 3), dtype=torch.uint8),
    torch.tensor([[0, 1, 0, 1]]).T.repeat(1, 8),
    torch.tensor([8, 8, 6, 4]),
)
TEACHER = "optimisation.teacher_weight=0.5"
EVERYTHING = (
    "augmentation.noise=0.5",
    "augmentation.mixup=0.5",
    "augmentation.mel_masks=1",
    "augmentation.time_masks=1",
)
SMALL_SOUND = ("network.num_channels=[4, 8]", "network.size=16", "network.recurrent_size=8")
SMALL_VIDEO = ("network.num_channels=[4, 8]", "network.size=8", "input.width=32", "input.height=24")
SMALL_FORECAST = ("network.num_features=8", "network.quarter_size=8", "network.eighth_size=8", "optimisation.horizon=2")


def classify() -> ClassifyTask:
    recipe = read_recipe(RECIPES / "actions.yaml", (*SMALL_VIDEO, TEACHER, "augmentation.mixup=0.5"), ClassifyRecipe)
    teacher = torchscript.script(ClassifyTask(recipe, "lstm", [2, 2]).module())
    return ClassifyTask(recipe, "gru", [2, 2], Teachers([torchscript.save(teacher)]))


def listen() -> ListenTask:
    recipe = read_recipe(RECIPES / "digits.yaml", (*SMALL_SOUND, *EVERYTHING, TEACHER), ListenRecipe)
    return ListenTask(recipe, "gru", [2, 2], ListeningTeachers([ListenTask(recipe, "gru", [2, 2]).module()]))


def features() -> FeaturesTask:
    return FeaturesTask(read_recipe(RECIPES / "audio-features.yaml", EVERYTHING, FeaturesRecipe), "gru")


def predict() -> PredictTask:
    task = PredictTask(read_recipe(RECIPES / "forecast.yaml", SMALL_FORECAST, PredictRecipe), "gru")
    task._draw_lengths = lambda: (4, 2)  # type: ignore[method-assign]  # asks the Trainer how far it has come
    return task


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (classify, CLIPS),
        (listen, WAVEFORMS),
        (features, WAVEFORMS),
        (predict, torch.randint(0, 256, (2, 12, 32, 32, 3), dtype=torch.uint8)),
    ],
)
def test_a_step_draws_nothing_on_another_device(make: Any, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "log_dict", lambda *_: None)  # there is no Trainer
    task = make()
    with torch.device("meta"):
        losses: list[Tensor] = [task.training_step(batch, 0) for _ in range(2)]  # the second may go on from the first
    assert all(loss.isfinite() for loss in losses)
    assert {loss.device.type for loss in losses} == {"cpu"}
