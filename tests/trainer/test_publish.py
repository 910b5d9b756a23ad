import datetime
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from app.errors import ModelRejected
from app.models.golden import Golden, read_golden, write_golden
from app.models.manifest import ClassifyOutput, Input, TrainingData
from app.models.store import list_versions, load_version
from tests.tiny_models import COLOURS, AroundTiny, TinyClassifier, make_tiny
from trainer.card import comparison, model_card
from trainer.metrics import Evaluation
from trainer.plan import Plan
from trainer.plans.evaluating import report
from trainer.publish import PICTURES, Compiled, publish
from trainer.recipe.reading import RecipeError
from trainer.recipe.sections import Optimisation
from trainer.run import RECIPE, RESULT, Epoch, Run, read_run, write_run
from trainer.tasks.learner import Learner

WIDTH, HEIGHT = 32, 24
WANTED = Input(media="video", width=WIDTH, height=HEIGHT, fit="stretch", sampling="uniform", clip_length=8, rate=4.0)
OPTIMISATION = Optimisation(learning_rate=1e-3, weight_decay=0.0, warmup=0.1, max_gradient_norm=1.0, ema_decay=0.0)


def make_evaluation(accuracy: float) -> Evaluation:
    return Evaluation(
        num_examples=10,
        accuracy=accuracy,
        macro_recall=accuracy,
        calibration_error=0.05,
        majority_share=0.4,
        controls={"one_frame": 0.3, "shuffled": 0.35},
        confusion=((3, 0, 1), (0, 3, 0), (1, 0, 2)),
    )


def make_plan(network: nn.Module) -> Plan:
    """Of a training that compiles and publishes, but is never carried out."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 6, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Plan(
        learner=Learner(network, OPTIMISATION),
        train=DataLoader([0]),
        val=None,
        input=WANTED,
        output=ClassifyOutput(labels=COLOURS),
        golden=(frames, np.array([6, 4])),
        summary="",
        num_examples={},
        kept_apart="file",
        headline="accuracy",
        evaluate=lambda module, folder: report({"val": make_evaluation(0.8)}, COLOURS, "measured"),
    )


def make_run(seed: int = 0, accuracy: float = 0.8, settings: tuple[str, ...] = ()) -> Run:
    measured = report({"val": make_evaluation(accuracy)}, COLOURS, "measured")
    return Run(
        name="colours",
        task="classify",
        summary="Tells red from green from blue.",
        cell="gru",
        settings=settings,
        seed=seed,
        command="python -m trainer train classify --name colours",
        date=datetime.date(2026, 1, 2),
        input=WANTED,
        output=ClassifyOutput(labels=COLOURS),
        training_data=(TrainingData(name="lamps", license="CC0-1.0", source="made up"),),
        num_examples={"train": 20, "val": 10},
        kept_apart="source (group)",
        num_parameters=1234,
        minutes=1.5,
        num_threads=1,
        precision="32-true",
        epochs=tuple(Epoch(epoch=n, train_loss=1 / n, validation={"val_loss": 2 / n}) for n in range(1, 40)),
        metrics=measured.metrics,
        headline="accuracy",
        report=measured.text,
        limits=measured.limits,
    )


def make_run_folder(folder: Path, run: Run | None = None, network: nn.Module | None = None) -> Path:
    folder.mkdir()
    network = network or make_tiny()
    Compiled("classify", make_plan(network)).save(network, folder)
    write_run(run or make_run(), folder)
    (folder / RECIPE).write_text("input: {width: 32}\n")
    return folder


def test_a_version_is_complete_and_loads(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run")

    version = publish(run, tmp_path / "store")

    assert version == tmp_path / "store/colours/1"
    assert sorted(path.name for path in version.iterdir()) == ["card.md", "golden.npz", "manifest.json", "model.pt"]
    assert (version / "model.pt").read_bytes() == (run / "model.pt").read_bytes()
    served = load_version(version)
    assert served.manifest.metrics["val"]["accuracy"] == 0.8
    assert served.manifest.output.labels == COLOURS
    assert "| red | 3 | 0 | 1 |" in served.card


def test_the_next_version_leaves_the_others_alone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    run = make_run_folder(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in publish(run, store).iterdir()}
    (store / "colours/1").rename(store / "colours/9")
    manifest = json.loads(before["manifest.json"]) | {"version": "9"}
    (store / "colours/9/manifest.json").write_text(json.dumps(manifest))

    publish(run, store)

    assert list_versions(store, "colours") == ["9", "10"]
    assert (store / "colours/9/model.pt").read_bytes() == before["model.pt"]
    assert sorted(path.name for path in store.iterdir()) == ["colours"]


def test_nothing_is_left_of_a_version_that_would_not_load(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run")
    content = bytearray((run / "model.pt").read_bytes())
    golden = read_golden(run / "golden.npz")
    other = dict(golden.outputs) | {"logits": golden.outputs["logits"] + 1}
    write_golden(run / "golden.npz", Golden(golden.chunk, golden.lengths, other))

    with pytest.raises(ModelRejected, match="logits differs from its golden output by 1"):
        publish(run, tmp_path / "store")

    assert list((tmp_path / "store").iterdir()) == []
    assert (run / "model.pt").read_bytes() == bytes(content)


def test_a_version_that_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    run = make_run_folder(tmp_path / "run")

    anothers = publish(run, tmp_path / "another's")

    def card_and_another_publisher(*arguments: object) -> str:
        if not (store / "colours/1").exists():
            shutil.copytree(anothers, store / "colours/1")
        return "# card"

    monkeypatch.setattr("trainer.publish.model_card", card_and_another_publisher)
    published = publish(run, store)

    assert (store / "colours/1/card.md").read_text() != "# card"
    assert sorted(path.name for path in store.iterdir()) == ["colours"]
    assert published == store / "colours/2"
    assert load_version(published).manifest.version == "2"


def test_a_run_that_is_not_finished_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} is no finished run: there is no result.json in it"):
        publish(tmp_path, tmp_path / "store")

    assert not list(tmp_path.iterdir())


def test_trained_weights_go_into_what_was_compiled_before(tmp_path: Path) -> None:
    compiled = Compiled("classify", make_plan(make_tiny(seed=0)))
    trained = make_tiny(seed=1)

    compiled.save(trained, tmp_path)

    golden = read_golden(tmp_path / "golden.npz")
    with torch.inference_mode():
        expected = trained(torch.from_numpy(golden.chunk), torch.from_numpy(golden.lengths))
    assert np.abs(golden.outputs["logits"] - expected.numpy()).max() == 0.0


def test_weights_that_answer_with_no_numbers_are_told(tmp_path: Path) -> None:
    compiled = Compiled("classify", make_plan(make_tiny(seed=0)))
    ruined = make_tiny(seed=0)
    with torch.no_grad():
        next(ruined.parameters()).fill_(torch.nan)

    with pytest.raises(ModelRejected, match=r"no finite answers: try a lower optimisation\.learning_rate"):
        compiled.save(ruined, tmp_path)


def test_pictures_of_the_run_stand_in_the_card(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path / "run")
    (run / PICTURES).mkdir()
    (run / PICTURES / "first_look.png").write_bytes(b"png")

    version = publish(run, tmp_path / "store")

    assert (version / "first_look.png").read_bytes() == b"png"
    assert "![first look](first_look.png)" in (version / "card.md").read_text()


class MeanOverTime(TinyClassifier):
    """Breaks the contract: looks at the whole chunk at once."""

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        pictures = chunk.float().mean(dim=(1, 2, 3)) / 255.0  # (B, 3)
        now = self.colours(pictures).unsqueeze(1).expand(-1, chunk.size(1), -1)
        return (now, now), state

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        (now, _), _ = self.step(frames, lengths, self.initial_state(frames.shape[0], 0, 0))
        return now[:, -1]


def test_a_network_that_answers_otherwise_in_chunks_is_refused_before_training() -> None:
    with pytest.raises(ModelRejected, match="after a split"):
        Compiled("classify", make_plan(MeanOverTime()))


class HearsPadding(nn.Module):
    """Breaks the contract: what lies beyond a length counts."""

    def __init__(self) -> None:
        super().__init__()
        self.loudness = nn.Linear(1, len(COLOURS))

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        return self.loudness(waveform.abs().mean(dim=1, keepdim=True))


def test_a_network_that_answers_otherwise_where_it_is_padded_is_refused() -> None:
    waveform = np.random.default_rng(0).normal(size=(2, 800)).astype(np.float32)
    plan = replace(make_plan(HearsPadding()), golden=(waveform, np.array([800, 500])))

    with pytest.raises(ModelRejected, match="a clip alone and padded in a batch"):
        Compiled("classify", plan)


class OddFrameByFrame(AroundTiny):
    """Breaks the contract only where a chunk is a single frame."""

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (now, so_far), state = self.inner.step(chunk, lengths, state)
        return (now + float(chunk.size(1) == 1), so_far), state


def test_a_network_that_answers_otherwise_frame_by_frame_is_refused() -> None:
    with pytest.raises(ModelRejected, match="now step by step"):
        Compiled("classify", make_plan(OddFrameByFrame()))


def test_the_card_says_what_one_must_know() -> None:
    card = model_card(make_run(), "input: {}", "3", 2_000_000, [make_run(), make_run(1, 0.9)])

    assert card.startswith("# colours 3\n\nTells red from green from blue.")
    for fact in ("CC0-1.0", "lamps (made up)", "seed 0", "1.5 minutes", "1,234 parameters, 2.0 MB", "20 train, 10 val"):
        assert fact in card
    assert "| val | 10 | 80.0 % | 80.0 % | 0.050 | 40.0 % | 30.0 % | 35.0 % |" in card
    assert "| gru | 0, 1 | 0.85 ± 0.071 | 1,234 | 1.5 |" in card
    assert "| 39 | 0.02564 | 0.05128 |" in card


def test_the_card_says_what_shared_the_work_and_where_nothing_recurs() -> None:
    run = make_run().model_copy(update={"num_processes": 2})

    card = model_card(run, "network: {size: 8, recurrence: none}", "1", 2_000_000)

    assert "| network | no recurrence, a mean over time, 1,234 parameters" in card
    assert "torch threads: 1 in each of 2 processes, 32-true" in card
    assert "| network | GRU, 1,234" in model_card(run, "network: {size: 8, recurrence: cell}", "1", 2_000_000)


def test_the_card_says_what_was_kept_apart_and_nothing_of_old_runs() -> None:
    examples = [
        line
        for apart in ("source (group)", "file", None)
        for line in model_card(make_run().model_copy(update={"kept_apart": apart}), "", "1", 1).splitlines()
        if line.startswith("| examples | 20")
    ]

    assert examples == [
        "| examples | 20 train, 10 val; no source (group) is in two of them |",
        "| examples | 20 train, 10 val; no file is in two of them |",
        "| examples | 20 train, 10 val |",
    ]


def test_a_run_from_before_its_options_were_told_is_read(tmp_path: Path) -> None:
    write_run(make_run(), tmp_path)
    content = json.loads((tmp_path / RESULT).read_text())
    del content["options"], content["kept_apart"]
    (tmp_path / RESULT).write_text(json.dumps(content))

    assert read_run(tmp_path).variant == "gru"


def test_what_was_trained_on_is_not_said_to_be_like_other_files() -> None:
    told = {name: " ".join(report({name: make_evaluation(0.8)}, COLOURS, "").limits) for name in ("train", "val")}

    assert "Nothing was held back" in told["train"]
    assert "off by" not in told["train"]
    assert "off by 0.050 on average on files like its own" in told["val"]


def test_an_epoch_that_was_not_validated_leaves_its_field_empty() -> None:
    epochs = (
        Epoch(epoch=4, train_loss=0.5, validation={"val_loss": 0.25}),
        Epoch(epoch=6, train_loss=0.25, validation={}),
    )

    run = make_run().model_copy(update={"epochs": epochs, "kept_epoch": 4})
    card = model_card(run, "input: {}", "3", 2_000_000, [])

    assert "| 4 | 0.5 | 0.25 |\n| 6 | 0.25 |  |" in card
    assert "6 epochs (the weights are of epoch 4, the best), torch threads" in card


def test_runs_that_say_nothing_of_each_other_are_not_compared() -> None:
    other = TrainingData(name="candles", license="CC0-1.0", source="made up")

    with pytest.raises(RecipeError, match="learnt from other data"):
        comparison([make_run(), make_run(1).model_copy(update={"training_data": (other,)})])
    with pytest.raises(RecipeError, match="two runs of gru have seed 0"):
        comparison([make_run(), make_run()])


def test_comparison_has_a_row_per_variant() -> None:
    other = make_run(1, 0.8).model_copy(update={"options": ("patience=5",)})
    runs = [make_run(0, 0.5), make_run(1, 0.7), make_run(0, 0.9, ("network.recurrence=none",)), other]

    rows = comparison(runs).splitlines()[2:]

    assert rows == [
        "| gru | 0, 1 | 0.6 ± 0.14 | 1,234 | 1.5 |",
        "| gru, network.recurrence=none | 0 | 0.9 | 1,234 | 1.5 |",
        "| gru, patience=5 | 1 | 0.8 | 1,234 | 1.5 |",
    ]
