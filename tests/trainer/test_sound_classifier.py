from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.models import torchscript
from trainer.networks.recurrent import Cell
from trainer.networks.sound_classifier import BothWays, SoundClassifier
from trainer.recipe.listen import ListenRecipe, Network
from trainer.recipe.reading import read_recipe
from trainer.tasks.listen import ListenTask

EXACT = 1e-5  # the contract's, in float32
NUM_LABELS = 5
CELLS: list[Cell] = ["lstm", "gru"]
RECIPES = Path("trainer/recipes")


def make_classifier(cell: Cell, centred: bool = True, range_decibels: float = 30.0) -> SoundClassifier:
    torch.manual_seed(0)
    network = Network(
        num_channels=(4, 6),
        halve_time=1,
        centred=centred,
        range_decibels=range_decibels,
        size=12,
        recurrent_size=8,
        num_layers=2,
        num_heads=4,
        dropout=0.5,
    )
    classifier = SoundClassifier(NUM_LABELS, cell, network)
    with torch.no_grad():  # as after training: constants that are not 0 and 1
        for module in classifier.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.bias.uniform_(-0.5, 0.5)
    return classifier.eval()


def make_sounds(num_samples: int = 16_000) -> Tensor:
    """(3,N): tones in noise, the second after a pause."""
    seconds = torch.arange(num_samples) / 16_000
    noise = 0.01 * torch.randn(3, num_samples, generator=torch.Generator().manual_seed(1))
    tones = torch.stack([0.3 * torch.sin(2 * torch.pi * hertz * seconds) for hertz in (200.0, 900.0, 2500.0)])
    tones[1, : num_samples // 3] = 0
    return tones + noise


@torch.no_grad()
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("centred", [True, False])
def test_padding_and_company_change_nothing(cell: Cell, centred: bool) -> None:
    classifier = make_classifier(cell, centred)
    waveform, lengths = make_sounds(), torch.tensor([16_000, 11_111, 3_000])
    logits = classifier(waveform, lengths)

    assert logits.shape == (3, NUM_LABELS)
    for row, length in enumerate(lengths.tolist()):
        alone = classifier(waveform[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(alone[0], logits[row], atol=EXACT, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("cell", CELLS)
def test_served_equals_eager(cell: Cell) -> None:
    classifier = make_classifier(cell)
    served = torchscript.load(torchscript.save(torchscript.script(classifier)))
    waveform, lengths = make_sounds(), torch.tensor([16_000, 9_999, 161])
    torch.testing.assert_close(served(waveform, lengths), classifier(waveform, lengths), atol=EXACT, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("range_decibels", "heard"), [(30.0, False), (0.0, True)])
def test_what_lies_below_its_range_is_not_heard(range_decibels: float, heard: bool) -> None:
    classifier = make_classifier("gru", range_decibels=range_decibels)
    lengths = torch.tensor([40])
    log_mel = torch.full((1, 40, 64), -12.0)
    log_mel[:, 10:30, 20:30] = 0.0
    louder = log_mel.clone()
    louder[:, :10, 50:] = -9.0  # 39 decibels below the loudest instead of 52

    same = torch.equal(classifier.classify(log_mel, lengths), classifier.classify(louder, lengths))
    assert same is not heard


@torch.no_grad()
def test_both_ways_hear_what_comes_before_and_after() -> None:
    torch.manual_seed(0)
    both = BothWays("gru", 3, 4)
    x, lengths = torch.randn(1, 6, 3), torch.tensor([4])
    hidden = both(x, lengths)

    changed = x.clone()
    changed[0, 3] += 1  # the last valid step: all backward states see it, of the forward ones only its own
    other = both(changed, lengths)
    assert torch.equal(hidden[0, :3, :4], other[0, :3, :4])
    assert (hidden[0, :4, 4:] != other[0, :4, 4:]).all()

    changed = x.clone()
    changed[0, 4:] += 1  # beyond the length
    torch.testing.assert_close(both(changed, lengths)[0, :4], hidden[0, :4], atol=EXACT, rtol=0)


@torch.no_grad()
def test_how_long_the_silence_around_a_sound_is_is_not_judged() -> None:
    classifier = make_classifier("gru")
    sound, short, long = make_sounds()[:1, :8_000], torch.zeros(1, 1_600), torch.zeros(1, 8_000)
    once = classifier(torch.cat((short, sound, short), dim=1), torch.tensor([11_200]))
    again = classifier(torch.cat((long, sound, long), dim=1), torch.tensor([24_000]))
    torch.testing.assert_close(again, once, atol=EXACT, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("waveform", [torch.zeros(1, 16_000), torch.ones(1, 1), torch.full((1, 400), -1.0)])
def test_silence_and_the_shortest_of_sounds_have_finite_logits(waveform: Tensor) -> None:
    classifier = make_classifier("gru")
    assert classifier(waveform, torch.tensor([waveform.shape[1]])).isfinite().all()


def test_balanced_classes_count_alike() -> None:
    def loss(label: int, weights: str) -> Tensor:
        """Of one sound; 30 of the training sounds are of label 0, 10 of label 1."""
        recipe = read_recipe(RECIPES / "emotion.yaml", [f"optimisation.class_weights={weights}"], ListenRecipe)
        torch.manual_seed(0)
        task = ListenTask(recipe, "gru", [30, 10])
        torch.nn.init.zeros_(task.network.logits[1].weight)  # both labels are as likely, whatever is heard
        torch.nn.init.zeros_(task.network.logits[1].bias)
        return task.training_step((make_sounds()[:2], torch.tensor([16_000, 16_000]), torch.full((2,), label)), 0)

    torch.testing.assert_close(loss(1, "none"), loss(0, "none"))
    assert loss(1, "balanced") > 2.5 * loss(0, "balanced")  # three times, but for the smoothing of labels
