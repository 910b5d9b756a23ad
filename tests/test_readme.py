"""The commands of the README and of docs/data.md do what they say, on the models that are shipped."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server import RunningServer, running_server
from trainer.__main__ import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATA = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", README + DATA, re.DOTALL)
COMMANDS = [line.split("  #")[0].strip() for block in SHELL for line in block.replace("\\\n", " ").splitlines()]
CURLS = [command for command in COMMANDS if command.startswith("curl") and "video.mp4" not in command]
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def shipped() -> Iterator[RunningServer]:
    with running_server(ROOT / "model_store") as server:
        yield server


def run_curl(command: str, server: RunningServer) -> str:
    arguments = shlex.split(command.replace(ADDRESS, server.url))
    done = subprocess.run([*arguments, "--silent", "--fail-with-body"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("command", CURLS)
def test_every_curl_is_answered(command: str, shipped: RunningServer, tmp_path: Path) -> None:
    command, _, file = command.partition(" -o ")
    if file:
        run_curl(f"{command} -o {tmp_path / file}", shipped)
        assert (tmp_path / file).stat().st_size > 1000
    else:
        assert run_curl(command, shipped)


@pytest.mark.parametrize("route", ["classify", "caption"])
def test_a_route_answers_what_the_readme_shows(route: str, shipped: RunningServer) -> None:
    shown = re.search(rf"<!-- answer: {route} -->\n```json\n(.*?)```", README, re.DOTALL)
    assert shown
    expected = json.loads(shown[1])
    answer = json.loads(run_curl(next(command for command in CURLS if f"/{route}" in command), shipped))
    assert set(answer.pop("timing")) == set(expected.pop("timing"))  # the times themselves differ
    assert_alike(answer, expected)


def assert_alike(answer: Any, expected: Any) -> None:
    """Equal; numbers to what the README rounds them to. A score may differ a little between processors."""
    if isinstance(expected, dict):
        assert answer.keys() == expected.keys()
        for key, value in expected.items():
            assert_alike(answer[key], value)
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for ours, theirs in zip(answer, expected, strict=True):
            assert_alike(ours, theirs)
    elif isinstance(expected, float):
        assert answer == pytest.approx(expected, abs=0.002)
    else:
        assert answer == expected


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_every_make_target_exists(command: str) -> None:
    target = command.split()[1]
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [command for command in COMMANDS if " -m trainer " in command])
def test_every_command_of_the_trainer_is_one(command: str) -> None:
    python, _, module, *arguments = shlex.split(command)
    assert (python, module) == (".venv/bin/python", "trainer")
    assert build_parser().parse_args(arguments).run


def test_every_path_of_the_tree_exists() -> None:
    tree = re.search(r"## How it works\n\n```\n(.*?)```", README, re.DOTALL)
    assert tree
    folder = Path()
    for line in tree[1].splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = Path(name)
        place = ROOT / name if not line.startswith(" ") else ROOT / folder / name
        assert "<" in name or place.exists(), name
