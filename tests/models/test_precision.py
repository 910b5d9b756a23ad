"""What classifiers compute in."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from app.models import precision
from app.models.golden import read_golden
from app.models.manifest import GoldenTolerance, read_manifest
from app.models.precision import GAIN, Precision, PrecisionChoice, gain, has_bfloat16
from app.models.rehearsal import rehearse
from app.models.store import ServedModel, freeze_version, load_version
from app.models.work import Work, run_works
from tests.media_maker import write_video
from tests.server import running_server
from tests.tiny_forecaster import write_forecaster
from tests.tiny_models import write_version

CPU = torch.device("cpu")
TOLERANCE = 0.02  # of scores, as manifests have it

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(CPU), reason="no instructions for bfloat16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_version(tmp_path / "store")


def clip(num_frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_frames)
    return torch.randint(0, 256, (num_frames, 24, 32, 3), dtype=torch.uint8, generator=generator)


def scores(model: ServedModel, frames: Tensor) -> Tensor:
    """(K,)"""
    [(logits,)], _ = run_works([Work(model, frames)])
    assert logits.dtype == torch.float32
    return logits.softmax(0)


def stepped_scores(model: ServedModel, frames: Tensor, chunk_length: int) -> Tensor:
    """(K,): what is said after the last frame, the state being handed on."""
    state = model.module.initial_state(1, 24, 32)[0]
    for chunk in frames.split(chunk_length):
        [(_, so_far)], [after] = run_works([Work(model, chunk, "step", state)])
        assert after is not None
        assert after.dtype == torch.float32
        state = after
    return so_far[-1].softmax(0)


@needs_bfloat16
def test_in_bfloat16_scores_are_nearly_the_same(folder: Path) -> None:
    exact, fast = load_version(folder), load_version(folder, choice="bfloat16")
    assert (exact.precision, fast.precision) == ("float32", "bfloat16")
    found = scores(fast, clip(8))
    assert not torch.equal(found, scores(exact, clip(8)))  # it is computed in another way
    assert (found - scores(exact, clip(8))).abs().max() <= TOLERANCE


@needs_bfloat16
@pytest.mark.parametrize("chunk_length", [1, 7, 64])
def test_in_bfloat16_a_stream_says_what_the_whole_does(folder: Path, chunk_length: int) -> None:
    exact, fast = load_version(folder), load_version(folder, choice="bfloat16")
    frames = clip(300)  # whole numbers over 256 are not all in bfloat16: what counts frames must not be
    streamed = stepped_scores(fast, frames, chunk_length)
    assert (streamed - scores(fast, frames)).abs().max() <= 1e-5  # the contract's: a state is as exact as in float32
    assert (streamed - scores(exact, frames)).abs().max() <= TOLERANCE


@needs_bfloat16
def test_one_whose_scores_would_change_stays_exact(folder: Path) -> None:
    strict = read_manifest(folder / "manifest.json").model_copy(
        update={"golden_tolerance": GoldenTolerance(bfloat16=1e-7)}
    )
    (folder / "manifest.json").write_text(strict.model_dump_json(), encoding="utf-8")
    assert load_version(folder, choice="bfloat16").precision == "float32"


@needs_bfloat16
def test_the_gain_is_that_of_one_over_the_other(folder: Path) -> None:
    golden = read_golden(folder / "golden.npz")
    twice = replace(golden, chunk=np.tile(golden.chunk, (1, 64, 1, 1, 1)), lengths=golden.lengths * 64)
    one, same = freeze_version(folder).module, freeze_version(folder).module
    assert 0.5 < gain(one, same, twice, CPU) < 2.0


@pytest.mark.parametrize(("measured", "expected"), [(GAIN - 0.01, "float32"), (GAIN + 0.01, "bfloat16")])
def test_auto_takes_what_is_faster(
    folder: Path, monkeypatch: pytest.MonkeyPatch, measured: float, expected: Precision
) -> None:
    monkeypatch.setattr(precision, "convolution_gain", lambda: 1.0)
    monkeypatch.setattr(precision, "gain", lambda *_: measured)
    assert load_version(folder, choice="auto").precision == (expected if precision.has_bfloat16(CPU) else "float32")


@needs_bfloat16
@pytest.mark.parametrize(("choice", "expected"), [("auto", "float32"), ("bfloat16", "bfloat16")])
def test_no_model_is_measured_where_convolutions_are_slower(
    folder: Path, monkeypatch: pytest.MonkeyPatch, choice: PrecisionChoice, expected: Precision
) -> None:
    monkeypatch.setattr(precision, "convolution_gain", lambda: 0.99)
    monkeypatch.setattr(precision, "gain", lambda *_: pytest.fail("it was"))
    assert load_version(folder, choice=choice).precision == expected


def test_convolutions_are_measured_once() -> None:
    first = precision.convolution_gain()
    assert 0.001 < first < 1000
    assert precision.convolution_gain() == first


def test_other_tasks_stay_exact(tmp_path: Path) -> None:
    assert load_version(write_forecaster(tmp_path), choice="bfloat16").precision == "float32"


@needs_bfloat16
def test_a_new_version_is_tried_in_what_it_will_run_in(folder: Path) -> None:
    rehearsed = asyncio.run(rehearse(folder, choice="bfloat16"))
    assert rehearsed.precision == "bfloat16"
    assert torch.equal(scores(rehearsed, clip(8)), scores(load_version(folder, choice="bfloat16"), clip(8)))


@needs_bfloat16
def test_the_service_says_what_it_computes_in(folder: Path, tmp_path: Path) -> None:
    green = np.zeros((40, 24, 32, 3), np.uint8)
    green[..., 1] = 255
    video = write_video(tmp_path / "clip.mp4", green, 8).read_bytes()
    with running_server(folder.parents[1], precision="bfloat16") as server, server.client() as client:
        assert client.get("/models/tiny").json()["versions"][0]["precision"] == "bfloat16"
        answers = [
            client.post("/classify", params={"timeline": timeline}, files={"file": video}).json()["results"][0]
            for timeline in (False, True)
        ]
    assert [answer["labels"][0]["label"] for answer in answers] == ["green", "green"]
    assert [segment["label"] for segment in answers[1]["segments"]] == ["green"]


def test_a_classifier_is_optimised_and_a_forecaster_is_not(folder: Path, tmp_path: Path) -> None:
    assert "mkldnn_convolution" in str(load_version(folder).module.step.graph)
    assert "mkldnn_convolution" in str(asyncio.run(rehearse(folder)).module.step.graph)
    assert "mkldnn_convolution" not in str(load_version(write_forecaster(tmp_path)).module.step.graph)


@needs_bfloat16
def test_what_runs_in_bfloat16_is_not_optimised_for_float32(folder: Path) -> None:
    assert "mkldnn_convolution" not in str(load_version(folder, choice="bfloat16").module.step.graph)
