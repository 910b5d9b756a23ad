"""JSON of more numbers than are written at once."""

import json

import numpy as np

from app.api.features import FeaturesProgress
from app.api.features_json import NUMBERS_AT_ONCE, in_json, vectors_in_json, windows_in_json
from app.api.stream_schemas import Step
from app.pipelines.features import Rows
from app.pipelines.readings import Reading
from app.pipelines.stream import StreamStep


def test_slices_join_without_a_seam() -> None:
    """Each value is its place; the parts end within a slice, and one has no rows."""
    vectors = np.arange(9 * NUMBERS_AT_ONCE // 3 * 3, dtype=np.float32).reshape(-1, 3)
    parts = np.split(vectors, [5000, 5000])
    answer = json.loads(in_json(FeaturesProgress(seconds=1.5, steps=None), steps=vectors_in_json(*parts)))
    assert answer == {"type": "progress", "seconds": 1.5, "steps": vectors.tolist()}


def test_windows_have_their_times() -> None:
    starts = np.arange(NUMBERS_AT_ONCE) / 3
    rows = Rows(starts, starts + 0.5, np.ones((NUMBERS_AT_ONCE, 2), np.float32))
    windows = json.loads(in_json(FeaturesProgress(seconds=0.0, steps=None), steps=windows_in_json(rows)))["steps"]
    assert len(windows) == NUMBERS_AT_ONCE
    assert windows[-1] == {"start_seconds": 2730.333333, "end_seconds": 2730.833333, "features": [1.0, 1.0]}


def test_what_is_not_there_is_null_or_empty() -> None:
    facts = FeaturesProgress(seconds=0.0, steps=None)
    assert json.loads(in_json(facts, steps=None))["steps"] is None
    assert json.loads(in_json(facts, steps=vectors_in_json()))["steps"] == []


def test_zero_has_no_sign() -> None:
    vectors = np.array([[-1e-9, -0.0, -1e-6]], np.float32)
    assert b'"steps":[[0.0,0.0,-1e-6]]' in in_json(
        FeaturesProgress(seconds=-1e-9, steps=None), steps=vectors_in_json(vectors)
    )
    assert b'"seconds":0.0' in in_json(FeaturesProgress(seconds=-1e-9, steps=None), steps=None)


def test_zero_has_no_sign_in_a_stream_either() -> None:
    features = np.array([-1e-9, -0.0, -1e-6], np.float32)
    step = StreamStep(sequence=1, seconds=0.0, reading=Reading(features=features))
    assert '"features":[0.0,0.0,-1e-6]' in Step.of(step).model_dump_json()
