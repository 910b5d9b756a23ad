"""Classifiers and describers of sound, from files to the model store, as `train` makes them."""

import csv
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch

from app.models.manifest import ClassifyOutput, FeaturesOutput
from app.models.store import load_version
from tests.media_maker import write_sound
from tests.server import running_server
from trainer.__main__ import main
from trainer.data.sounds import CachedSound
from trainer.metrics import judge
from trainer.networks.log_mel import LogMel, mel_centres
from trainer.networks.sound_classifier import SoundClassifier
from trainer.pictures import draw_confusion
from trainer.recipe.listen import Augmentation, ListenRecipe
from trainer.recipe.reading import RECIPES, RecipeError, read_recipe
from trainer.run import read_run
from trainer.sound_metrics import score_sounds
from trainer.tasks.listen import ListenTask
from trainer.tasks.sound_augment import add_noise, augment, mix, stretch
from trainer.tasks.teachers import ListeningTeachers, load_listening_teachers, load_teachers
from trainer.tasks.waveforms import parts_loader

RATE = 16_000
SMALL = [
    "network.num_channels=[4, 8, 8]",
    "network.size=16",
    "network.recurrent_size=8",
    "budget.num_epochs=8",
    "budget.batch_size=8",
]


def write_tones(folder: Path, count: int) -> Path:
    """A CSV of rising and falling tones of random pitch and loudness: only the order of the steps tells them apart."""
    generator = np.random.default_rng(0)
    rows = []
    seconds = np.arange(RATE // 2) / RATE
    for index in range(count):
        label = ("falling", "rising")[index % 2]
        low = generator.uniform(200, 600)
        hertz = low * 3 ** (seconds * 2 if label == "rising" else 1 - seconds * 2)
        waveform = generator.uniform(0.1, 0.4) * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
        write_sound(folder / f"{index}.wav", waveform.astype(np.float32), RATE)
        rows.append([f"{index}.wav", label, "test" if index >= count * 3 // 4 else "train"])
    with (folder / "tones.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])
    return folder / "tones.csv"


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones"), 80)


def run_trainer(task: str, recipe: str, data: Path, folder: Path, settings: list[str], *options: str) -> None:
    arguments = ["train", task, "--name", "tones", "--data", str(data), "--recipe", f"trainer/recipes/{recipe}.yaml"]
    arguments += ["--cache", str(folder / "cache"), "--output", str(folder / "run"), "--store", str(folder / "store")]
    arguments += ["--accelerator", "cpu", "--threads", "1", "--decoders", "1", "--val-fraction", "0.1"]
    main([*arguments, *options, *(part for setting in settings for part in ("--set", setting))])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_what_only_order_tells_apart_is_learnt_and_published(tones: Path, tmp_path: Path, cell: str) -> None:
    settings = [*SMALL, "augmentation.pitch=1.1", "network.dropout=0.0"]
    run_trainer("classify", "digits", tones, tmp_path, settings, "--cell", cell)
    model = load_version(tmp_path / "store" / "tones" / "1")

    manifest = model.manifest
    assert isinstance(manifest.output, ClassifyOutput)
    assert manifest.output.labels == ("falling", "rising")
    assert (manifest.task, manifest.cell, manifest.input.media, manifest.causal) == ("classify", cell, "audio", False)
    assert manifest.metrics["test"]["num_examples"] == 20
    assert manifest.metrics["test"]["accuracy"] >= 0.9
    assert "confusion.png" in model.card
    assert (tmp_path / "store" / "tones" / "1" / "confusion.png").is_file()


def test_a_long_sound_is_judged_as_the_service_judges_it(tones: Path, tmp_path: Path) -> None:
    """In parts of 0.6 s: what is left over is heard from 0.5 s on."""
    with tones.open(encoding="utf-8") as file:
        rows = [[tones.parent / row["path"], row["label"], row["split"]] for row in csv.DictReader(file)]
    seconds = np.arange(2 * RATE) / RATE
    waveform = (0.3 * np.sin(2 * np.pi * (300 + 400 * seconds) * seconds)).astype(np.float32)
    for length in (0.6, 1.0, 1.1, 1.7):
        path = write_sound(tmp_path / f"{length}.wav", waveform[: round(length * RATE)], RATE)
        rows.append([path, "rising", "test"])
    with (tmp_path / "long.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "split"], *rows])
    settings = [*SMALL, "budget.num_epochs=2", "input.max_seconds=0.6"]
    run_trainer("classify", "digits", tmp_path / "long.csv", tmp_path, settings)
    with (tmp_path / "run" / "predictions_test.csv").open(encoding="utf-8") as file:
        told = {Path(row["path"]): float(row["rising"]) for row in csv.DictReader(file)}

    with running_server(tmp_path / "store") as server, server.client() as client:
        for path, *_ in rows[-4:]:
            answer = client.post("/classify", content=path.read_bytes(), params={"model": "tones"}).json()
            scores = {found["label"]: found["score"] for found in answer["results"][0]["labels"]}
            assert scores["rising"] == pytest.approx(told[path], abs=2e-5)  # the contract's 1e-5 of logits, rounded


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_validation_judges_as_the_published_file_is_judged(tmp_path: Path) -> None:
    """Long sounds in parts, and of the classes those that occur: the third is answered but never true."""
    torch.manual_seed(0)
    recipe = read_recipe(RECIPES / "digits.yaml", [*SMALL, "network.dropout=0.0"], ListenRecipe)
    task = ListenTask(recipe, "gru", [2, 2, 2])
    generator = np.random.default_rng(0)
    sounds = []
    for index in range(24):
        hertz = generator.uniform(100, 4000)
        waveform = np.sin(2 * np.pi * hertz * np.arange(RATE + RATE * (index % 3) // 2) / RATE).astype(np.float32)
        sounds.append(CachedSound(f"{index}.wav", index % 2, str(index), waveform))
    with torch.no_grad():  # so that no answer is likelier than the others
        task.averaged.logits[1].bias -= torch.from_numpy(np.log(score_sounds(task.module(), sounds, RATE))).mean(0)
    expected = judge(sounds, score_sounds(task.module(), sounds, RATE), {})
    assert all(sum(column) for column in zip(*expected.confusion, strict=True))  # each is answered at times

    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    (found,) = trainer.validate(task, parts_loader(sounds, RATE, 5), verbose=False)
    assert found["val_macro_recall"] == pytest.approx(expected.macro_recall)


def make_task(*settings: str, teachers: ListeningTeachers | None = None) -> ListenTask:
    recipe = read_recipe(RECIPES / "digits.yaml", [*SMALL, "network.dropout=0.0", *settings], ListenRecipe)
    return ListenTask(recipe, "gru", [2, 2], teachers)


def make_teacher(seed: int) -> SoundClassifier:
    torch.manual_seed(seed)
    return make_task().module()


def test_teachers_answer_with_the_mean_of_what_each_says_of_the_sound() -> None:
    networks, log_mel, lengths = [make_teacher(0), make_teacher(1)], torch.randn(3, 40, 64), torch.tensor([40, 30, 7])
    each = [network.classify(log_mel, lengths).softmax(1) for network in networks]

    found = ListeningTeachers(networks)(log_mel, lengths)

    torch.testing.assert_close(found, (each[0] + each[1]) / 2)
    assert not torch.allclose(each[0], each[1], atol=1e-3)


@pytest.mark.parametrize(("weight", "label_counts"), [(0, True), (1, False)])
def test_a_pupil_weighs_its_teachers_against_the_labels(weight: int, label_counts: bool) -> None:
    task = make_task(f"optimisation.teacher_weight={weight}", teachers=ListeningTeachers([make_teacher(0)]))
    waveform, lengths = torch.randn(4, RATE // 2), torch.full((4,), RATE // 2)

    def loss(labels: list[int]) -> float:
        torch.manual_seed(0)  # of the augmentation
        return float(task.training_step((waveform, lengths, torch.tensor(labels)), 0).detach())

    assert (loss([0, 0, 1, 1]) != loss([1, 1, 0, 0])) == label_counts
    taught = loss([0, 0, 1, 1])
    task.teachers = None
    assert (loss([0, 0, 1, 1]) == taught) == label_counts


def test_a_finished_run_teaches_another(tones: Path, tmp_path: Path) -> None:
    run_trainer("classify", "digits", tones, tmp_path, [*SMALL, "budget.num_epochs=1"])
    pupil = ["--name", "pupil", "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "pupil")]
    arguments = ["train", "classify", *pupil, "--teachers", str(tmp_path / "run"), "--no-publish", "--threads", "1"]
    settings = [part for setting in [*SMALL, "budget.num_epochs=1"] for part in ("--set", setting)]
    main([*arguments, "--data", str(tones), "--recipe", str(RECIPES / "digits.yaml"), *settings])
    assert read_run(tmp_path / "pupil").num_examples["train"] > 0

    teachers = load_listening_teachers([tmp_path / "run"], ("falling", "rising"))
    assert teachers is not None
    served = load_version(tmp_path / "store" / "tones" / "1").module
    waveform, lengths = torch.randn(2, RATE // 2), torch.tensor([RATE // 2, RATE // 4])
    log_mel, steps = make_task().network.trim(*LogMel().whole(waveform, lengths))
    torch.testing.assert_close(teachers(log_mel, steps), served(waveform, lengths).softmax(1), atol=1e-5, rtol=0)
    with pytest.raises(RecipeError, match="in video"):
        load_teachers([tmp_path / "run"], ("falling", "rising"))
    with pytest.raises(RecipeError, match="does not tell rising, falling apart"):
        load_listening_teachers([tmp_path / "run"], ("rising", "falling"))


def test_a_describer_learns_without_labels_and_is_published(tones: Path, tmp_path: Path) -> None:
    settings = ["network.num_channels=8", "network.size=16", "network.bottleneck=8", "network.num_components=12"]
    settings += ["budget.num_epochs=4", "budget.batch_size=16"]
    run_trainer("features", "audio-features", tones, tmp_path, settings)
    model = load_version(tmp_path / "store" / "tones" / "1")

    manifest = model.manifest
    assert isinstance(manifest.output, FeaturesOutput)
    assert manifest.input.step_samples == 640
    assert manifest.output.hop_seconds == pytest.approx(0.04)
    waveform = torch.zeros(1, 6_400)
    clip, steps, _ = model.module(waveform, torch.tensor([6_400]))
    assert clip.shape == (1, manifest.output.dimension)
    assert steps.shape == (1, 10, manifest.output.step_dimension)
    run = read_run(tmp_path / "run")
    assert run.num_examples.keys() == {"train", "val"}
    assert f"in the {run.num_examples['train']} files it was trained on" in run.limits[0]

    settings[-2] = "budget.num_epochs=1"
    run_trainer(
        "features", "audio-features", tones, tmp_path, settings, "--val-fraction", "0", "--output", f"{tmp_path}/all"
    )
    assert "Nothing was held back" in read_run(tmp_path / "all").limits[-1]


def make_augmentation(**changes: float) -> Augmentation:
    nothing = {"tempo": 1.0, "pitch": 1.0, "gain_decibels": 0.0, "colour_decibels": 0.0, "noise": 0.0}
    masks = {"mel_masks": 0, "mel_mask_width": 0, "time_masks": 0, "time_mask_width": 0.0, "mixup": 0.0}
    return Augmentation.model_validate({**nothing, **masks, **changes})


def log_mel_of_tone(hertz: float) -> torch.Tensor:
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(RATE // 2) / RATE)
    return LogMel().whole(tone[None], torch.tensor([RATE // 2]))[0]


def test_an_augmentation_of_nothing_changes_nothing() -> None:
    log_mel, lengths = torch.randn(3, 40, 64), torch.tensor([40, 30, 1])
    changed, changed_lengths = augment(log_mel, lengths, make_augmentation())
    assert torch.equal(changed_lengths, lengths)
    # Positions on the mel scale are computed and rounded to float32: 1e-6 of 64 bands of standard normal values.
    torch.testing.assert_close(changed[0], log_mel[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(changed[1, :30], log_mel[1, :30], atol=1e-4, rtol=0)


def test_pitch_moves_a_tone_to_where_the_higher_tone_is() -> None:
    torch.manual_seed(0)
    log_mel = log_mel_of_tone(1000.0)
    moved, _ = stretch(log_mel, torch.tensor([50]), tempo=1.0, pitch=1.5)
    peaks = mel_centres()[moved[0, 25].argmax()], mel_centres()[log_mel[0, 25].argmax()]
    torch.manual_seed(0)
    torch.rand(1)  # of the tempo
    factor = 1.5 ** (2 * torch.rand(1) - 1)
    assert float(peaks[0] / peaks[1]) == pytest.approx(float(factor), rel=0.08)  # a mel is 6 % at 1 kHz


def test_tempo_changes_the_length() -> None:
    torch.manual_seed(0)
    _, lengths = stretch(torch.randn(200, 50, 64), torch.full((200,), 50), tempo=1.25, pitch=1.0)
    assert 40 <= int(lengths.min()) <= 42
    assert 60 <= int(lengths.max()) <= 63


def test_noise_is_never_below_the_sound_and_masks_take_their_share() -> None:
    torch.manual_seed(0)
    log_mel = log_mel_of_tone(500.0).repeat(20, 1, 1)
    assert (add_noise(log_mel, 1.0) >= log_mel).all()

    masked, _ = augment(log_mel, torch.full((20,), 50), make_augmentation(time_masks=1, time_mask_width=0.4))
    share = (masked - log_mel).abs().amax(dim=2).gt(1e-3).float().mean()
    assert 0.1 < float(share) < 0.3  # spans of up to 0.4 are 0.2 on average


def test_mixed_sounds_last_as_long_as_the_longer_and_share_their_labels() -> None:
    torch.manual_seed(0)
    log_mel, lengths, targets = torch.randn(2, 20, 64), torch.tensor([20, 10]), torch.eye(2)
    mixed, mixed_lengths, mixed_targets = mix(log_mel, lengths, targets, alpha=1.0)
    assert mixed_lengths.tolist() == [20, 20]
    torch.testing.assert_close(mixed_targets.sum(1), torch.ones(2))
    torch.testing.assert_close(
        mixed[0, :10], mixed_targets[0, 0] * log_mel[0, :10] + mixed_targets[0, 1] * log_mel[1, :10]
    )


def test_labels_are_no_formulas(tmp_path: Path) -> None:
    draw_confusion([[1, 0], [0, 1]], ["US$ 5^$", "$_$"], "confusion", tmp_path / "confusion.png")

    assert (tmp_path / "confusion.png").stat().st_size > 1000
