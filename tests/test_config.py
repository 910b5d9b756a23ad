import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config import Settings

EXAMPLE = (Path(__file__).parents[1] / ".env.example").read_text(encoding="utf-8")
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


@pytest.mark.parametrize(("name", "value"), [("PORT", "70000"), ("DEADLINE_SECONDS", "0"), ("DEVICE", "toaster")])
def test_a_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"AFTERFRAME_{name}", value)
    with pytest.raises(ValidationError):
        Settings()
