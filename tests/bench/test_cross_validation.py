import json
import shlex
import sys
from pathlib import Path

import pytest

from bench import cross_validation
from bench.cross_validation import false_alarms, interval, parts, train_without
from tests.conftest import RATE, coloured_frames
from tests.media_maker import write_video
from tests.trainer.test_publish import make_run
from tests.trainer.test_train import REPOSITORY, TINY
from trainer.begun import BEGUN, Begun
from trainer.data.listing import Video, write_listing
from trainer.run import Run, read_run, write_run


def videos(*names: str) -> list[Video]:
    return [Video(Path(name), "a", group=f"group of {name}") for name in names]


def names(found: dict[str, list[Video]]) -> dict[str, list[str]]:
    return {name: [video.path.name for video in part] for name, part in found.items()}


def test_a_part_is_what_the_pattern_captures() -> None:
    found = parts(videos("0_theo_1.wav", "0_jackson_1.wav", "1_theo_0.wav"), "_(.+)_", None)
    assert names(found) == {"jackson": ["0_jackson_1.wav"], "theo": ["0_theo_1.wav", "1_theo_0.wav"]}


def test_blocks_keep_neighbours_together_whatever_their_class() -> None:
    found = parts(videos("fi003.mp4", "nofi001.mp4", "fi001.mp4", "fi002.mp4", "nofi003.mp4"), r"(\d+)", 2)
    assert names(found) == {
        "001-002": ["nofi001.mp4", "fi001.mp4", "fi002.mp4"],
        "003-003": ["fi003.mp4", "nofi003.mp4"],
    }


def test_blocks_are_in_order_of_numbers_however_they_are_written() -> None:
    found = parts(videos("fi1.mp4", "fi10.mp4", "fi2.mp4", "fi11.mp4", "fi03.mp4"), r"(fi\d+)", 2)
    assert names(found) == {
        "fi1-fi03": ["fi1.mp4", "fi2.mp4", "fi03.mp4"],
        "fi10-fi11": ["fi10.mp4", "fi11.mp4"],
    }


def test_without_a_pattern_groups_are_left_out() -> None:
    assert list(parts(videos("x.mp4"), None, None)) == ["group of x.mp4"]
    with pytest.raises(ValueError, match=r"not found in 'x\.mp4'"):
        parts(videos("x.mp4"), r"(\d+)", None)


def test_interval_is_wilsons() -> None:
    # Newcombe 1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E: 81 of 263.
    assert interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_false_alarms_where_95_percent_are_found() -> None:
    own = [{"label": "fight", "fight": str(score / 20)} for score in range(1, 21)]  # 19 of 20 are at least 0.1
    others = [{"label": "calm", "fight": score} for score in ("0.05", "0.09", "0.1", "0.9")]
    assert false_alarms([*own, *others], "fight") == 0.5


VIDEOS = [Video(Path(f"{name}.mp4"), name, name) for name in ("a", "b", "c")]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was trained, if only in name."""
    found: list[list[str]] = []

    def run(command: list[str], **_: object) -> None:
        found.append(command)
        folder = Path(command[command.index("--output") + 1])
        folder.mkdir(exist_ok=True)
        write_run(make_run().model_copy(update={"command": shlex.join(["python", *command[1:]])}), folder)

    monkeypatch.setattr(cross_validation.subprocess, "run", run)
    return found


def without_a(folder: Path, left_out: int = 1, seed: str = "0") -> Run:
    return train_without("classify", VIDEOS[:left_out], VIDEOS, folder / "1", ["--seed", seed])


def test_the_same_training_is_taken_and_no_other(tmp_path: Path, commands: list[list[str]]) -> None:
    first = without_a(tmp_path)
    assert without_a(tmp_path) == first
    assert len(commands) == 1

    with pytest.raises(ValueError, match="another --runs is needed"):
        without_a(tmp_path, left_out=2)
    with pytest.raises(ValueError, match="another --runs is needed"):
        without_a(tmp_path, seed="1")
    assert without_a(tmp_path) == first
    assert json.loads((tmp_path / "1/result.json").read_text())["seed"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "without-1.csv"]


def test_a_training_that_was_stopped_goes_on(tmp_path: Path, commands: list[list[str]]) -> None:
    without_a(tmp_path)
    command = shlex.join(["python", *commands[0][1:]])
    (tmp_path / "1/result.json").unlink()
    begun = dict.fromkeys(("test_data", "group_pattern", "weights")) | dict.fromkeys(("name", "recipe", "data"), "")
    begun |= {"task": "classify", "cell": "gru", "teachers": (), "num_examples": {}, "command": command}
    begun |= dict.fromkeys(("seed", "val_fraction", "test_fraction", "patience", "num_devices"), 0)
    begun["output"] = make_run().output
    (tmp_path / "1" / BEGUN).write_text(Begun.model_validate(begun).model_dump_json())

    with pytest.raises(ValueError, match="another --runs is needed"):
        without_a(tmp_path, left_out=2)
    without_a(tmp_path)

    assert commands[1:] == [[*commands[0], "--resume"]]


def test_groups_need_be_no_names_of_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained for real: without a pattern and without a column for it, a group is a path."""
    found = []
    for group in ("Arch/v_Arch_g1.mp4", "other"):
        for colour in ("red", "green"):
            path = tmp_path / f"{len(found)}.mp4"
            write_video(path, coloured_frames(colour, seconds=1 + len(found) / 2), RATE)  # no two alike
            found.append(Video(path, colour, group))
    write_listing(found[:2], tmp_path / "data.csv")
    write_listing(found[2:], tmp_path / "also.csv")
    settings = [part for setting in TINY for part in ("--set", setting)]
    options = ["--data", tmp_path / "data.csv", "--also", tmp_path / "also.csv", "--cache", tmp_path / "cache"]
    options += ["--runs", tmp_path / "runs", "--recipe", "trainer/recipes/motion.yaml", *settings]
    monkeypatch.setattr(sys, "argv", ["bench.cross_validation", *map(str, options)])
    monkeypatch.chdir(REPOSITORY)

    cross_validation.main()

    assert "1, without Arch/v_Arch_g1.mp4: " in capsys.readouterr().out
    assert read_run(tmp_path / "runs/1").num_examples == {"train": 2, "test": 2}
