import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.models.manifest import Manifest, read_manifest
from tests.tiny_models import make_manifest


@pytest.fixture
def fields() -> dict[str, Any]:
    return json.loads(make_manifest(b"").model_dump_json())


def test_what_is_written_is_read(tmp_path: Path):
    manifest = make_manifest(b"some bytes", name="a-1", version="12")
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    assert read_manifest(tmp_path / "manifest.json") == manifest


def test_a_typo_is_an_error(fields: dict[str, Any]):
    with pytest.raises(ValidationError, match="clip_lenght"):
        Manifest.model_validate_json(json.dumps(fields | {"input": fields["input"] | {"clip_lenght": 8}}))


def test_a_missing_field_is_an_error(fields: dict[str, Any]):
    for name in ("sha256", "training_data", "input", "schema_version"):
        with pytest.raises(ValidationError, match=name):
            Manifest.model_validate({key: value for key, value in fields.items() if key != name})


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a" * 64, "a\n"])
def test_a_name_is_no_path(fields: dict[str, Any], name: str):
    with pytest.raises(ValidationError, match="name"):
        Manifest.model_validate(fields | {"name": name})


@pytest.mark.parametrize("version", ["0", "01", "1.0", "-1", "v1", "", "1\n"])
def test_a_version_is_an_integer_from_one(fields: dict[str, Any], version: str):
    with pytest.raises(ValidationError, match="version"):
        Manifest.model_validate(fields | {"version": version})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"causal": False}, "may be without steps"),
        ({"output": {"labels": ["a", "a"]}}, "must differ"),
        ({"output": {"labels": []}}, "labels"),
        ({"output": {"labels": ["a"], "scores": "sigmoid", "shortest_seconds": {"b": 1}}}, "of the labels"),
        ({"output": {"labels": ["a"], "shortest_seconds": {"a": 1}}}, "do not compete"),
        ({"output": {"labels": ["a"], "delay_steps": 1}}, "samples by rate"),
        ({"task": "predict"}, "answers a PredictOutput"),
        ({"task": "features", "output": {"max_horizon": 1}}, "takes audio"),
        ({"task": "predict", "output": {"max_horizon": 10}}, "observes clip_length frames"),
        ({"input": {"media": "audio", "sample_rate": 8000, "max_samples": 800}}, "has step_samples where"),
        ({"schema_version": 2}, "schema_version"),
        ({"sha256": "0" * 63}, "sha256"),
    ],
)
def test_contradictions_are_errors(fields: dict[str, Any], change: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        Manifest.model_validate(fields | change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"clip_length": None}, "clip_length"),
        ({"fit": None}, "fit"),
        ({"rate": None}, "rate"),
        ({"width": "any"}, "width and height together"),
        ({"width": "any", "height": "any"}, "longest_side"),
        ({"media": "audio"}, "sample_rate"),
        ({"media": "audio", "sample_rate": 16000}, "step_samples or max_samples"),
        ({"media": "audio", "sample_rate": 16000, "step_samples": 1, "max_samples": 1}, "step_samples or max_samples"),
    ],
)
def test_incomplete_inputs_are_errors(fields: dict[str, Any], change: dict[str, Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        Manifest.model_validate(fields | {"input": fields["input"] | change})


def test_the_licence_names_each_terms_once(fields: dict[str, Any]):
    data = [{"name": name, "license": terms, "source": "-"} for name, terms in (("a", "X"), ("b", "Y"), ("c", "X"))]
    assert Manifest.model_validate(fields | {"training_data": data}).license == "X; Y"
