"""Settings that are searched for: how a search is said, and a study that ends, goes on and tells which was best."""

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.test_train import REPOSITORY, TINY, start, train_arguments
from trainer.__main__ import main
from trainer.recipe.classify import ClassifyRecipe
from trainer.recipe.reading import RecipeError, read_recipe
from trainer.recipe.search import Choice, Range, parse_search
from trainer.tune import draw, open_study


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("a.b=1e-4..1e-2:log", Range("a.b", 1e-4, 1e-2, is_log=True, is_whole=False)),
        ("a.b=0..0.5", Range("a.b", 0.0, 0.5, is_log=False, is_whole=False)),
        ("a.b=-3..8", Range("a.b", -3.0, 8.0, is_log=False, is_whole=True)),
        ("a.b=8, 16,32", Choice("a.b", ("8", "16", "32"))),
        ("a.b=true,false", Choice("a.b", ("true", "false"))),
        ("a.b=[16,32], [32, 64]", Choice("a.b", ("[16,32]", "[32, 64]"))),
    ],
)
def test_a_search_is_a_range_or_a_choice(text: str, searched: Range | Choice) -> None:
    assert parse_search(text) == searched


@pytest.mark.parametrize(
    "text",
    ["a.b", "ab=1..2", "a.b=2..1", "a.b=1..1", "a.b=0..1:log", "a.b=low..high", "a.b=5", "a.b=5,5", "a.b=nan..1"],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(RecipeError, match=r"a\.?b"):
        parse_search(text)


Tune = Callable[..., str]


@pytest.fixture
def tune(motion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Tune:
    """What `python -m trainer tune classify` says of a study in `tmp_path / "study"`."""

    def run(*arguments: str) -> str:
        chosen = [part for setting in TINY for part in ("--set", setting)]
        command = ["tune", "classify", "--data", motion, "--name", "tuned", "--cache", tmp_path / "cache"]
        command += ["--recipe", REPOSITORY / "trainer/recipes/motion.yaml", "--threads", "1", "--accelerator", "cpu"]
        main([*map(str, command), "--output", str(tmp_path / "study"), *chosen, *arguments])
        return capsys.readouterr().out

    return run


SEARCH = ("--search", "optimisation.learning_rate=1e-3..1e-1:log", "--search", "network.size=8,16")


def rows(told: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in told.splitlines() if line.startswith("| ")]
    assert lines[0][:3] == ["trial", "optimisation.learning_rate", "network.size"]
    return lines[1:]


def test_the_best_settings_become_a_recipe_and_no_test_set_is_read(tune: Tune, tmp_path: Path) -> None:
    told = tune(*SEARCH, "--trials", "3", "--test-fraction", "0.2")
    tried = rows(told)
    assert sorted(row[0] for row in tried) == ["0", "1", "2"]
    assert all(1e-3 <= float(row[1]) <= 1e-1 and row[2] in ("8", "16") for row in tried)
    path = re.search(r"--recipe (\S+)", told)
    assert path
    best = read_recipe(Path(path[1]), [], ClassifyRecipe)
    assert best.optimisation.learning_rate == pytest.approx(float(tried[0][1]))
    assert best.network.size == int(tried[0][2])
    assert not list(tmp_path.rglob("predictions*"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_the_same_command_goes_on_and_another_does_not(tune: Tune, capsys: pytest.CaptureFixture[str]) -> None:
    first = rows(tune(*SEARCH, "--trials", "1"))
    both = rows(tune(*SEARCH, "--trials", "2"))
    assert len(both) == 2
    assert first[0] in both
    with pytest.raises(SystemExit, match="2"):
        tune("--search", "network.size=8,16,24", "--trials", "2")
    assert "has trials of something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--search", "network.sise=8,16"), "network.sise: network has "),
        (("--search", "networks.size=8,16"), "networks.size: the recipe has "),
        ((*SEARCH, "--val-fraction", "0"), "settings are compared in validation"),
    ],
)
def test_what_cannot_be_searched_is_told(
    tune: Tune, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tune(*arguments, "--trials", "1")
    assert words in capsys.readouterr().err


def test_a_first_command_that_could_not_work_is_in_no_ones_way(tune: Tune) -> None:
    for mistyped in ("network.size=many,few", "network.size=0,-1"):
        with pytest.raises(SystemExit, match="2"):
            tune("--search", mistyped, "--trials", "1")
    assert len(rows(tune(*SEARCH, "--trials", "1"))) == 1


def test_machines_may_differ_but_not_what_is_learnt_from(
    tune: Tune, motion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, data = tmp_path / "recipe.yaml", tmp_path / "data"
    shutil.copyfile(REPOSITORY / "trainer/recipes/motion.yaml", recipe)
    shutil.copytree(motion, data)
    command = [*SEARCH, "--trials", "1", "--recipe", str(recipe), "--data", str(data)]
    first = rows(tune(*command))
    assert rows(tune(*command, "--threads", "2", "--decoders", "1", "--cache", str(tmp_path / "elsewhere"))) == first

    def is_refused(*changes: str) -> bool:
        with pytest.raises(SystemExit, match="2"):
            tune(*command, *changes)
        return "has trials of something else" in capsys.readouterr().err

    assert is_refused("--name", "another")
    written = recipe.read_text(encoding="utf-8")
    recipe.write_text(written.replace("warmup: 0.05", "warmup: 0.1"), encoding="utf-8")
    assert is_refused()
    recipe.write_text(written, encoding="utf-8")
    next(data.rglob("*.mp4")).unlink()
    assert is_refused()


def test_two_that_share_the_work_try_different_settings(tmp_path: Path) -> None:
    """Each opens the journal before either has tried anything, as two that are started together do."""
    studies = [open_study(tmp_path, []), open_study(tmp_path, [])]
    drawn = [draw(study.ask(), [parse_search("a.b=0.0..1.0")], seed=0) for _ in range(2) for study in studies]
    assert len(set(drawn)) == 4


def test_a_search_that_is_stopped_says_how_it_goes_on(motion: Path, tmp_path: Path) -> None:
    arguments = [*train_arguments(motion, "tuned", "budget.num_epochs=400"), *SEARCH, "--trials", "1"]
    process = start(tmp_path, ["tune", *arguments[1:]])
    assert process.stderr is not None
    assert any(line.startswith("epoch 1/400") for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]

    assert process.returncode == 128 + signal.SIGTERM
    assert "the same command goes on with the others" in said
    assert "--resume" not in said


WILD = ("--set", "optimisation.max_gradient_norm=1e30", "--search", "optimisation.learning_rate=1e28..1e30:log")


@pytest.mark.filterwarnings("ignore:Encountered `nan` values in tensor")
@pytest.mark.parametrize("one_step", [(), ("--set", "budget.batch_size=100", "--set", "budget.num_epochs=1")])
def test_trials_whose_loss_is_no_number_are_given_up(tune: Tune, one_step: tuple[str, ...]) -> None:
    """In one step, only the validation after it can tell."""
    assert "None of 2 trials was completed" in tune(*WILD, *one_step, "--trials", "2")
