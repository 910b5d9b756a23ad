"""The commands, run as a user runs them, on generated videos and a network of a few hundred parameters."""

import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from app.media.decode import read_media
from app.media.request import FrameChunk, FrameSpec, MediaRequest
from app.models import torchscript
from app.models.manifest import ClassifyOutput
from app.models.store import load_version
from tests.media_maker import sine, write_sound
from trainer.__main__ import main
from trainer.begun import Begun, begin, go_on
from trainer.data.generators import MOTION_LABELS
from trainer.data.listing import read_listing
from trainer.plans.examples import warn_of_mirrors
from trainer.recipe.camera import CameraRecipe
from trainer.recipe.reading import RECIPES, RecipeError, read_content, read_recipe
from trainer.run import MODEL, RESULT, read_run

REPOSITORY = Path(__file__).parents[2]
TINY = (
    "input.width=32",
    "input.height=24",
    "input.clip_length=6",
    "cache.width=32",
    "cache.height=24",
    "network.num_channels=[8, 8]",
    "network.size=8",
    "sampling.clip_length=4",
    "budget.num_epochs=2",
    "budget.precision=32-true",
    "budget.validate_every=1",
)


Command = Callable[..., str]


@pytest.fixture
def trainer(capsys: pytest.CaptureFixture[str]) -> Command:
    """What `python -m trainer` says."""

    def run(*arguments: str | Path) -> str:
        main([str(argument) for argument in arguments])
        return capsys.readouterr().out

    return run


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Command:
    """What `python -m trainer` says of a mistake."""

    def run(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit, match="2"):
            main([str(argument) for argument in arguments])
        return capsys.readouterr().err

    return run


def train_arguments(data: Path, name: str, *settings: str) -> list[str]:
    recipe = REPOSITORY / "trainer/recipes/motion.yaml"
    chosen = [part for setting in (*TINY, *settings) for part in ("--set", setting)]
    basics = ["train", "classify", "--data", data, "--name", name, "--recipe", recipe, "--threads", "1"]
    return [*map(str, basics), "--accelerator", "cpu", *chosen]


def start(folder: Path, arguments: list[str], start_new_session: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )


@pytest.fixture(scope="module")
def trained(motion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder in which a model was trained on a folder of videos, a fifth of them tested on."""
    folder = tmp_path_factory.mktemp("work")
    process = start(folder, [*train_arguments(motion, "tiny-motion"), "--test-fraction", "0.2"])
    _, said = process.communicate()
    assert process.returncode == 0, said
    return folder


def test_a_folder_of_videos_becomes_a_version(trained: Path) -> None:
    manifest = load_version(trained / "model_store/tiny-motion/1").manifest

    assert manifest.output.labels == MOTION_LABELS
    assert (manifest.input.width, manifest.input.height, manifest.input.clip_length) == (32, 24, 6)
    assert set(manifest.metrics) == {"val", "test"}
    assert manifest.command.startswith("python -m trainer train classify --data")
    run = read_run(trained / "runs/tiny-motion")
    assert [epoch.epoch for epoch in run.epochs] == [1, 2]
    assert sum(run.num_examples.values()) == 30
    assert (trained / "runs/tiny-motion/learning_curve.png").stat().st_size > 1000


def test_the_version_answers_as_the_trainer_said(trained: Path) -> None:
    """Round trip: file -> app.media -> published model equals the trainer's own scores, video by video."""
    model = load_version(trained / "model_store/tiny-motion/1")
    spec = FrameSpec(32, 24, "stretch", clip_length=6)
    with (trained / "runs/tiny-motion/predictions_test.csv").open() as file:
        rows = list(csv.DictReader(file))

    assert rows
    for row in rows:
        with Path(row["path"]).open("rb") as file:
            events = list(read_media(file, MediaRequest(frames=(spec,))))
        clip = np.concatenate([event.frames for event in events if isinstance(event, FrameChunk)])
        with torch.inference_mode():
            scores = model.module(torch.from_numpy(clip)[None], torch.tensor([6])).softmax(1)[0]
        said = [float(row[label]) for label in MOTION_LABELS]
        assert np.abs(scores.numpy() - said).max() <= 1e-5  # the contract's tolerance, six decimals written
        assert MOTION_LABELS[int(scores.argmax())] == row["answer"]


def test_evaluate_through_the_published_file(
    trained: Path, motion: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)

    told = trainer("evaluate", "--model", "tiny-motion@1", "--data", motion, "--output", "evaluation")

    assert told.startswith("tiny-motion 1\n\n| set | examples |")
    with Path("evaluation/predictions.csv").open() as file:
        answers = {row["path"]: row for row in csv.DictReader(file)}
    assert len(answers) == 30
    with Path("runs/tiny-motion/predictions_test.csv").open() as file:
        for row in csv.DictReader(file):
            assert answers[row["path"]]["answer"] == row["answer"]


def test_a_split_is_evaluated_as_it_was_trained(
    trained: Path, motion: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    split = ["--split", "val", "--test-fraction", "0.2", "--output", "of-val"]

    trainer("evaluate", "--model", "tiny-motion@1", "--data", motion, *split)

    said = {name: Path(name).read_text() for name in ("of-val/predictions.csv", "runs/tiny-motion/predictions_val.csv")}
    assert len(set(said.values())) == 1


def test_copies_that_training_leaves_out_are_not_evaluated(
    trained: Path, motion: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    paths = sorted(motion.glob("*/*.*"))
    marked = [(path, split, "") for path, split in zip(paths, ["train", "val", "val"] * 10, strict=True)]
    marked += [(paths[index], "test", "test/") for index in (1, 2, 4)]
    rows = [f"{path},{path.parent.name},{split},{prefix}{path.name}\n" for path, split, prefix in marked]
    Path("copies.csv").write_text("path,label,split,group\n" + "".join(rows))

    main(["evaluate", "--model", "tiny-motion@1", "--data", "copies.csv", "--split", "val"])

    told, said = capsys.readouterr()
    assert said.count(": also in test, as ") == 3
    assert "| val | 17 |" in told


def test_only_what_a_csv_says_is_test_is_evaluated_as_test(
    trained: Path, motion: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    rows = [f"{path},{path.parent.name},test\n" for path in sorted(motion.glob("*/*-00000.*"))]
    Path("test.csv").write_text("path,label,split\n" + "".join(rows))

    told = trainer("evaluate", "--model", "tiny-motion@1", "--data", "test.csv", "--split", "test")

    assert f"| test | {len(rows)} |" in told


def test_a_group_that_is_marked_once_is_all_of_the_test(
    trained: Path, motion: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    rows = []
    for path in sorted(motion.glob("*/*.mp4")):
        index = int(path.stem[-5:])
        split, group = ("test", ""), ("held back", path.name)
        rows.append(f"{path},{path.parent.name},{split[index > 0]},{group[index > 1]}\n")
    Path("partly.csv").write_text("path,label,split,group\n" + "".join(rows))

    told = trainer("evaluate", "--model", "tiny-motion@1", "--data", "partly.csv", "--split", "test")

    assert "| test | 10 |" in told


def test_mirror_images_of_sides_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["turn_Left", "right", "bright", "leftover"]

    warn_of_mirrors(labels, 0.0, "augmentation.flip")
    assert capsys.readouterr().err == ""
    warn_of_mirrors(labels, 0.5, "augmentation.flip")
    assert "turn_Left, right are learnt from mirror images too; --set augmentation.flip=0" in capsys.readouterr().err


def test_publish_again_and_compare(trained: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    run = "runs/tiny-motion"

    assert trainer("publish", "--run", run, "--compare", run) == "model_store/tiny-motion/2\n"
    assert "| gru, " in trainer("card", "--runs", run)
    assert "## Comparison" in Path("model_store/tiny-motion/2/card.md").read_text()


def test_a_killed_run_is_resumed(
    motion: Path, tmp_path: Path, trainer: Command, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # A state that is carried over is the one thing that a checkpoint does not keep.
    settings = ["budget.num_epochs=4", "optimisation.carry_share=0"]
    arguments = [*train_arguments(motion, "on", *settings), "--no-publish", "--output", "run"]
    process = start(tmp_path, [*arguments])
    assert process.stderr is not None
    assert any(line.startswith("epoch 2/4") for line in process.stderr)  # the first one's checkpoint is there
    process.kill()
    process.communicate()

    assert "run already exists; --resume goes on with it" in mistake(*arguments)
    for other, told in [
        (["--set", "network.dropout=0.2"], "recipe"),
        (["--seed", "1"], "seed"),
        (["--val-fraction", "0.5"], "val fraction, num examples"),
        (["--patience", "1", "--devices", "2"], "patience, num devices"),
    ]:
        assert f"run was begun with another {told}: see run/begun.json" in mistake(*arguments, "--resume", *other)
    trainer(*arguments, "--resume")

    trainer(*arguments, "--output", "straight")
    found, expected = (torchscript.weights(Path(run, MODEL).read_bytes()) for run in ("run", "straight"))
    assert all(torch.equal(weight, expected[name]) for name, weight in found.items())
    resumed = read_run(tmp_path / "run")
    assert [epoch.epoch for epoch in resumed.epochs] == [1, 2, 3, 4]
    assert resumed.command == shlex.join(["python", "-m", "trainer", *arguments])
    assert not (tmp_path / "model_store").exists()
    assert "run is finished: publish it with `publish --run run`" in mistake(*arguments, "--resume")


def test_what_is_too_large_for_memory_is_told(
    motion: Path, tmp_path: Path, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    told = mistake(*train_arguments(motion, "large", f"sampling.clip_length={10**14}"))
    assert "a batch needs more memory than there is: try a lower budget.batch_size" in told


def test_a_full_disk_is_told(motion: Path, mistake: Command) -> None:
    told = mistake("list", "--data", motion, "--output", "/dev/full")
    assert "No space left on device: make room, then give the command again" in told


def test_what_cannot_be_published_is_kept(
    motion: Path, tmp_path: Path, mistake: Command, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model_store").mkdir()
    Path("model_store/kept").touch()  # in the place of the model's folder

    assert "not published: `python -m trainer publish --run runs/kept` tries again" in mistake(
        *train_arguments(motion, "kept")
    )
    Path("model_store/kept").unlink()
    assert trainer("publish", "--run", "runs/kept") == "model_store/kept/1\n"


def test_ctrl_c_while_videos_are_decoded_is_no_error_of_the_decoders(motion: Path, tmp_path: Path) -> None:
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = start(tmp_path, [*train_arguments(motion, "early"), "--decoders", "1"], start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert process.stderr is not None
    assert any(line.startswith("decoding 3/30") for line in process.stderr)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said = process.communicate(timeout=60)[1]

    assert process.returncode == 128 + signal.SIGINT
    assert said.endswith("python -m trainer: stopped\n")
    assert "Traceback" not in said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 1), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_run_that_is_stopped_says_how_it_goes_on(
    motion: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in a shell's background ignore it
    try:
        process = start(tmp_path, [*train_arguments(motion, "on", "budget.num_epochs=400"), "--no-publish"])
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert process.stderr is not None
    assert any(line.startswith("epoch 1/400") for line in process.stderr)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]

    assert process.returncode == status
    assert "--output runs/on --resume goes on with it" in said
    assert not (tmp_path / "runs/on/result.json").exists()


def test_without_a_folder_the_newest_unfinished_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    begun = Begun(
        task="classify",
        name="on",
        recipe="budget: {num_epochs: 1}",
        cell="gru",
        seed=0,
        data="videos",
        test_data=None,
        group_pattern=None,
        val_fraction=0.15,
        test_fraction=0.0,
        weights=None,
        teachers=(),
        patience=0,
        num_devices=1,
        num_examples={"train": 3},
        output=ClassifyOutput(labels=("left", "right")),
    )
    with pytest.raises(FileNotFoundError, match="no run of on in runs can be resumed"):
        go_on(None, begun)
    folders = [begin(None, begun) for _ in range(3)]
    (folders[2] / RESULT).touch()

    assert [folder.as_posix() for folder in folders] == ["runs/on", "runs/on-2", "runs/on-3"]
    assert go_on(None, begun) == folders[1]
    with pytest.raises(FileNotFoundError, match="nowhere is not a run"):
        go_on(Path("nowhere"), begun)


def test_all_videos_may_be_trained_on(
    motion: Path, tmp_path: Path, trainer: Command, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*train_arguments(motion, "all", "budget.num_epochs=1"), "--val-fraction", "0", "--no-publish"]

    assert "--patience needs a validation set" in mistake(*arguments, "--output", "refused", "--patience", "3")
    trainer(*arguments)

    run = read_run(tmp_path / "runs/all")
    assert run.num_examples == {"train": 30}
    assert run.epochs[0].validation == {}
    assert set(run.metrics) == {"train"}


@pytest.mark.slow
def test_two_processes_train_one_model(motion: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.parent.name},{'val' if '00001' in path.name else ''}\n" for path in motion.glob("*/*")]
    (tmp_path / "odd.csv").write_text("path,label,split\n" + "".join(rows))
    process = start(tmp_path, [*train_arguments(tmp_path / "odd.csv", "shared"), "--devices", "2"])
    said, _ = process.communicate()

    assert process.returncode == 0
    assert said.count("published: model_store/shared/1") == 1
    run = read_run(tmp_path / "runs/shared")
    assert (len(run.epochs), run.num_processes) == (2, 2)
    assert "devices=2" in run.variant
    # Of five videos, shared out between two, one would count twice.
    assert run.epochs[-1].validation["val_accuracy"] == pytest.approx(run.metrics["val"]["accuracy"])


def test_a_finished_run_teaches_another_but_not_of_other_labels(
    trained: Path, motion: Path, tmp_path: Path, trainer: Command, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    two_labels = tmp_path / "two"
    two_labels.mkdir()
    for label in MOTION_LABELS[:2]:
        (two_labels / label).symlink_to(motion / label)
    run = trained / "runs/tiny-motion"
    teachers = ["--no-publish", "--teachers", str(run), "--weights", str(run / "model.pt")]
    apart = ["--patience", "5", "--test-fraction", "0.1", "--group-pattern", r"(\w+)\.mp4"]
    assert "run: runs/pupil" in trainer(*train_arguments(motion, "pupil"), *teachers, *apart)
    assert "does not tell" in mistake(*train_arguments(two_labels, "other"), *teachers)
    forecaster = ["train", "predict", "--data", motion, "--name", "forecaster", "--threads", "1"]
    assert "--teachers is for classifiers of labelled videos or sounds" in mistake(*forecaster, *teachers)
    flow = [
        "train",
        "classify",
        "--data",
        motion,
        "--name",
        "flow",
        "--recipe",
        REPOSITORY / "trainer/recipes/fight.yaml",
    ]
    assert "not for those that see flow" in mistake(*flow, *teachers)
    pupil = read_run(Path("runs/pupil"))
    for option in ("recipe=motion ", "val-fraction=0.15", f"weights={run / 'model.pt'}", f"teachers={run}"):
        assert option in pupil.variant
    for option, value in zip(apart[::2], apart[1::2], strict=True):
        assert f"{option[2:]}={value}" in pupil.variant
    assert "learnt from teachers" in pupil.limits[-2]
    assert "chosen on `val`" in pupil.limits[-1]
    assert not any("chosen" in limit or "teachers" in limit for limit in read_run(run).limits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "My_Model"], "My_Model is not a name: lower-case letters, digits and hyphens"),
        (["--set", "budget.epochs=3"], "motion.yaml: budget.epochs: there is no epochs, but num_epochs, batch_size, "),
        (
            ["--set", "budged.num_epochs=3"],
            "motion.yaml: budged: there is no budged, but optimisation, budget, input, ",
        ),
        (["--set", "network.num_heads=3"], "motion.yaml: network: num_heads must divide size, 8"),
        (["--set", "budget.num_epochs=many"], "motion.yaml: budget.num_epochs: Input should be a valid integer"),
        (["--group-pattern", "(left"], "--group-pattern: (left is not a regular expression: missing )"),
        (["--cache", "/proc/cache"], "/proc/cache"),
        (["--data", "nowhere"], "no such folder or CSV file: nowhere"),
        (["--val-fraction", "0.001", "--test-fraction", "0.999"], "0 videos to train on"),
        (["--test-fraction", "1"], "1 is not in [0, 1)"),
        (["--devices", "0"], "0 is not at least 1"),
        (["--seed", "4294967296"], "is not at least 0 and at most 4294967295"),
        (["--store", "/dev/null"], "/dev/null is not a folder"),
        (["--accelerator", "gpu", "--devices", "1000"], "--accelerator gpu --devices 1000: this machine has "),
    ],
)
def test_a_mistake_is_told_before_anything_is_made(
    motion: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    mistake: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert message in mistake(*train_arguments(motion, "mistaken"), *arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_told_apart_or_tested_is_refused(
    motion: Path, tmp_path: Path, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one_label = tmp_path / "one"
    one_label.mkdir()
    (one_label / MOTION_LABELS[0]).symlink_to(motion / MOTION_LABELS[0])
    rows = [f"{path},{path.parent.name},train\n" for path in sorted(motion.glob(f"{MOTION_LABELS[0]}/*"))]
    only_tested = f"{next(motion.glob(f'{MOTION_LABELS[1]}/*'))},{MOTION_LABELS[1]},test\n"
    Path("data.csv").write_text("path,label,split\n" + "".join([*rows, only_tested]))

    assert "there is only one class, " in mistake(*train_arguments(one_label, "one"))
    assert f"nothing to learn {MOTION_LABELS[1]} from" in mistake(*train_arguments(Path("data.csv"), "two"))
    assert "it cannot be the test data too" in mistake(*train_arguments(motion, "same"), "--test-data", motion)


def test_a_name_stays_with_its_task(
    trained: Path, motion: Path, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)

    said = mistake("train", "predict", "--data", motion, "--name", "tiny-motion")

    assert "tiny-motion in model_store is a model for classify, not for predict" in said


def test_list_writes_a_csv_that_can_be_inspected(
    motion: Path, tmp_path: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    patterns = ["--group-pattern", r"(\w+-\d+)", "--val-pattern", r"00001\.", "--test-pattern", r"0000[23]\."]

    assert trainer("list", "--data", motion, *patterns, "--output", "data.csv") == "30 videos in data.csv\n"

    report = trainer("inspect", "--data", "data.csv")
    assert "| all | 15 | 5 | 10 | 30 |" in report
    assert "Nothing suspicious found." in report
    assert Path("runs/inspect-data/contact_sheet.png").stat().st_size > 10_000


def test_where_the_data_lie_says_nothing_of_their_splits(
    motion: Path, tmp_path: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_labels(motion, tmp_path / "run_00001" / "videos")
    listed = ["list", "--data", tmp_path / "run_00001" / "videos", "--test-pattern", "0000[01]"]
    trainer(*listed, "--output", "run_00001/data.csv")
    trainer("list", "--data", "run_00001/data.csv", "--val-pattern", "0000[2]", "--output", "again.csv")

    splits = Counter(video.split for video in read_listing(Path("again.csv")))
    assert splits == {"test": 4, "val": 2, None: 6}


def copy_labels(motion: Path, folder: Path) -> Path:
    for label in MOTION_LABELS[:2]:
        shutil.copytree(motion / label, folder / label)
    return folder


def test_data_are_called_as_their_folder_is(
    motion: Path, tmp_path: Path, trainer: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy_labels(motion, tmp_path / "my.videos-v1.2"))

    for data in (".", Path.cwd()):
        report = trainer("inspect", "--data", data, "--recipe", RECIPES / "motion.yaml", "--cache", tmp_path / "cache")
        assert report.startswith("# my.videos-v1.2\n")
        assert report.endswith("runs/inspect-my.videos-v1.2\n")
        shutil.rmtree("runs")


def test_data_are_inspected_as_the_recipe_has_them(
    motion: Path, tmp_path: Path, trainer: Command, mistake: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    videos = copy_labels(motion, tmp_path / "videos")
    for index, label in enumerate(("high", "high", "low", "low")):
        Path("sounds", label).mkdir(parents=True, exist_ok=True)
        write_sound(Path("sounds", label, f"{index}.wav"), sine(0.5, 16_000, 200.0 + index), 16_000)

    seen = trainer("inspect", "--data", videos, "--recipe", RECIPES / "fight.yaml")
    heard = trainer("inspect", "--data", "sounds", "--recipe", RECIPES / "emotion.yaml", "--val-fraction", "0")
    assert "| frame rate | train |" in seen
    assert Path("runs/inspect-videos/contact_sheet.png").is_file()
    assert "| all | 4 | 4 |" in heard
    assert "| duration (s) | train | 0.5 | 0.5 | 0.5 |" in heard
    assert "Nothing suspicious found." in heard
    assert "for sounds, give a recipe for sound" in mistake("inspect", "--data", "sounds")
    for other in ("camera", "describe", "captions", "forecast", "forecast-mnist", "audio-features"):
        said = mistake("inspect", "--data", videos, "--recipe", RECIPES / f"{other}.yaml")
        wanted = "inspect needs the recipe of a classifier of videos or sounds"
        assert said == f"python -m trainer: {wanted}, which {other}.yaml is not\n"


def test_generate(tmp_path: Path, trainer: Command, mistake: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["generate", "motion", "--output", "m", "--count", "1"]

    assert trainer(*arguments) == "5 videos in m\n"
    videos = sorted(Path("m").rglob("*.mp4"))
    assert [path.parent.name for path in videos] == sorted(MOTION_LABELS)
    videos[0].unlink()
    written = [path.stat().st_mtime_ns for path in videos[1:]]
    assert trainer(*arguments) == "5 videos in m\n"
    assert videos[0].is_file()
    assert [path.stat().st_mtime_ns for path in videos[1:]] == written
    assert "m was drawn with other settings, see m/.drawn" in mistake(*arguments, "--seed", "1")
    assert trainer(*arguments, "--count", "2") == "10 videos in m\n"
    assert "m holds 5 files more than were asked for" in mistake(*arguments)
    Path("other", "left").mkdir(parents=True)
    assert "other already exists" in mistake("generate", "motion", "--output", "other")
    assert "-1 is not at least 0" in mistake(*arguments, "--seed", "-1")
    assert "0 is not at least 1" in mistake(*arguments, "--count", "0")


def test_pictures_that_no_grid_of_cells_divides_are_refused_before_anything_is_decoded() -> None:
    with pytest.raises(RecipeError, match=r"camera\.yaml: input\.width: Input should be a multiple of 64"):
        read_recipe(RECIPES / "camera.yaml", ["input.width=100"], CameraRecipe)


def test_a_recipe_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes("input: {width: 32} # größer".encode("latin-1"))

    with pytest.raises(RecipeError, match=r"recipe\.yaml is not UTF-8: invalid \w+ byte at byte 23"):
        read_content(tmp_path / "recipe.yaml")
