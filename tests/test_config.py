import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from app.config import Settings, doubtful, misspelt
from tests.server import running_server
from tests.tiny_models import write_version

ROOT = Path(__file__).parents[1]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
OF_THE_IMAGE = {"host", "port", "model_store"}
"""In a container it listens on all addresses at 8000, and the store is mounted."""
PER_CORE = {"decoder_workers", "inference_threads"}


def test_the_example_shows_every_setting_and_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {name.lower(): value for name, value in re.findall(r"^#AFTERFRAME_(\w+)=(.*)$", EXAMPLE, re.MULTILINE)}
    assert set(shown) == set(Settings.model_fields)
    for name, value in shown.items():
        monkeypatch.setenv(f"AFTERFRAME_{name.upper()}", value)
    from_example, by_default = Settings(), Settings.model_construct()
    for name in set(shown) - PER_CORE:
        assert getattr(from_example, name) == getattr(by_default, name), name


def test_every_setting_is_explained() -> None:
    assert [
        name for name, field in Settings.model_fields.items() if not field.description and name != "log_level"
    ] == []


def test_models_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERFRAME_MODELS", "motion, actions,")
    assert Settings().models == ("motion", "actions")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("DEADLINE_SECONDS", "0"),
        ("DEADLINE_SECONDS", "1e30"),
        ("SESSION_TOTAL_SECONDS", "inf"),
        ("MAX_PIXELS", str(2**31)),
        ("MAX_STREAMS", str(2**31)),
        ("DECODER_MEMORY_BYTES", str(2**48)),
        ("DEVICE", "toaster"),
        ("CORS_ORIGINS", "https://page.example,https://other.example/"),
    ],
)
def test_a_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"AFTERFRAME_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_compose_passes_on_every_setting() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    passed = compose["services"]["afterframe"]["environment"]
    assert passed == {
        f"AFTERFRAME_{name.upper()}": f"${{AFTERFRAME_{name.upper()}:-}}"
        for name in Settings.model_fields
        if name not in OF_THE_IMAGE
    }


def test_a_name_that_is_no_setting_is_told_with_the_one_that_is_meant() -> None:
    assert misspelt(["AFTERFRAME_API_KEY_FILE", "AFTERFRAME_PORT", "HOME"]) == [
        "AFTERFRAME_API_KEY_FILE is not a setting; did you mean AFTERFRAME_API_KEYS_FILE?"
    ]


def start(**settings: str) -> tuple[int, str]:
    """The exit status of a service that does not start, and what it says."""
    environment = (
        os.environ | {"AFTERFRAME_PORT": "0"} | {f"AFTERFRAME_{name}": value for name, value in settings.items()}
    )
    ended = subprocess.run(
        [sys.executable, "-m", "app"], env=environment, stderr=subprocess.PIPE, text=True, timeout=100, check=False
    )
    return ended.returncode, ended.stderr


def test_a_misspelt_setting_stops_the_start() -> None:
    said = "AFTERFRAME_API_KEY_FILE is not a setting; did you mean AFTERFRAME_API_KEYS_FILE?\n"
    assert start(API_KEY_FILE="keys.toml") == (1, said)


def test_values_that_are_refused_are_told_in_a_line_each_without_the_value() -> None:
    status, said = start(PORT="70000", STATE_KEYS="short,secret")
    assert status == 1
    assert re.sub(": .*", "", said).split() == ["AFTERFRAME_PORT", "AFTERFRAME_STATE_KEYS", "AFTERFRAME_STATE_KEYS"]
    assert "secret" not in said


def test_a_model_that_is_not_there_is_told_without_a_traceback(tmp_path: Path) -> None:
    write_version(tmp_path)
    status, said = start(MODEL_STORE=str(tmp_path), MODELS="tiny@3")
    assert status == 3
    assert f"\"{tmp_path} has no version '3' of tiny; there are: 1\"" in said
    assert "Traceback" not in said


def test_a_file_of_keys_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    assert start(API_KEYS_FILE=str(tmp_path / "keys.toml")) == (1, f"{tmp_path}/keys.toml: No such file or directory\n")


def test_a_device_that_is_not_there_is_told_as_what_it_is(tmp_path: Path) -> None:
    write_version(tmp_path)
    status, said = start(MODEL_STORE=str(tmp_path), DEVICE="cuda:99")
    assert status == 3
    assert "the device cuda:99 cannot be used" in said
    assert "Traceback" not in said
    assert "TorchScript" not in said


def test_decoders_are_told_no_setting_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_version(tmp_path)
    key = "a key of thirty-two bytes or more"
    monkeypatch.setenv("afterframe_state_keys", key)  # read as in capitals
    with running_server(tmp_path) as server:
        told = [Path(f"/proc/{pid}/environ").read_bytes() for pid in server.descendants()]
        assert not any("AFTERFRAME_STATE_KEYS" in line["message"] for line in server.lines)
    assert told
    assert not any(key.encode() in environment for environment in told)


def test_a_deadline_that_outlasts_the_end_is_warned_of_and_not_refused(tmp_path: Path) -> None:
    assert doubtful(Settings(deadline_seconds=45.0, shutdown_seconds=45)) == []
    status, said = start(DEADLINE_SECONDS="45.5", API_KEYS_FILE=str(tmp_path / "keys.toml"))
    assert status == 1
    warning, why_it_ended = said.splitlines()
    logged = json.loads(warning)
    assert logged["level"] == "warning"
    assert "AFTERFRAME_DEADLINE_SECONDS (45.5) is above AFTERFRAME_SHUTDOWN_SECONDS (45)" in logged["message"]
    assert "keys.toml" in why_it_ended
