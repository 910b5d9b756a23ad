"""Requests made up from our own OpenAPI document, right and wrong ones: every answer is as it says there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.robustness import scale
from tests.server import RunningServer

# All checks but one: a schema cannot say which bytes are a video, so what it makes up is mostly refused.
CHECKS = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or ""


@pytest.mark.skipif(not SCHEMATHESIS, reason="schemathesis is not installed")
@pytest.mark.parametrize(
    ("examples", "phases"),
    [
        (2, "fuzzing"),
        pytest.param(scale.SCHEMA_EXAMPLES, "examples,coverage,fuzzing", marks=pytest.mark.robustness),
    ],
)
@pytest.mark.timeout(1800)
def test_answers_are_as_documented(server: RunningServer, tmp_path: Path, examples: int, phases: str) -> None:
    before = len(server.lines)
    how_much = ["--seed", str(scale.SEED), "--max-examples", str(examples), "--phases", phases]
    found = subprocess.run(
        [SCHEMATHESIS, "run", f"{server.url}/openapi.json", *CHECKS, *how_much, "--no-color", "--continue-on-failure"],
        capture_output=True,
        text=True,
        cwd=tmp_path,  # it keeps a cache where it runs
        timeout=1700,
    )
    assert found.returncode == 0, found.stdout[-8000:]
    assert not [line for line in server.lines[before:] if line.get("level") == "error"]
