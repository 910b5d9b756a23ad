import csv
from pathlib import Path

import numpy as np
import pytest

from app.models import torchscript
from tests.tiny_models import COLOURS, make_tiny
from trainer.data.cache import CachedVideo
from trainer.metrics import write_predictions
from trainer.video_metrics import measure_videos, score_clips

LENGTH = 6


def coloured(colour: int, label: int) -> CachedVideo:
    clip = np.zeros((LENGTH, 24, 32, 3), np.uint8)
    clip[..., colour] = 220
    return CachedVideo(f"{colour}{label}.mp4", label, "", clip[:0], clip)


def test_figures_of_known_answers() -> None:
    # The tiny classifier answers the colour: 3 of 4 right, green once taken for red, no blue.
    videos = [coloured(0, 0), coloured(0, 0), coloured(1, 1), coloured(0, 1)]

    evaluation, scores = measure_videos(make_tiny(), videos)

    assert evaluation.confusion == ((2, 0, 0), (1, 1, 0), (0, 0, 0))
    assert evaluation.accuracy == 0.75
    assert evaluation.macro_recall == 0.75  # of the two that occur: 1 and 0.5
    assert evaluation.majority_share == 0.5
    # All frames are alike, so neither control changes anything.
    assert evaluation.controls == {"one_frame": 0.75, "shuffled": 0.75}
    # All scores are above 0.9, in the same one or two bins: the gap of their mean to what is right.
    assert evaluation.calibration_error == pytest.approx(abs(scores.max(axis=1).mean() - 0.75), abs=0.05)
    assert scores.sum(axis=1) == pytest.approx(1.0, abs=1e-6)  # float32 softmax


def test_controls_take_the_motion_away() -> None:
    """Red frames first and a single blue one last: a mean over time is red, whatever their order."""
    video = coloured(0, 0)
    video.clip[-1] = (0, 0, 220)
    video.clip[LENGTH // 2] = (0, 220, 0)

    evaluation, _ = measure_videos(make_tiny(), [video])

    assert evaluation.accuracy == 1.0
    assert evaluation.controls["one_frame"] == 0.0  # the middle frame is green
    assert evaluation.controls["shuffled"] == 1.0


def test_batches_change_no_score() -> None:
    generator = np.random.default_rng(0)
    clips = list(generator.integers(0, 256, (19, LENGTH, 24, 32, 3), dtype=np.uint8))
    module = torchscript.load(torchscript.save(torchscript.script(make_tiny())))

    together = score_clips(module, clips)
    alone = np.concatenate([score_clips(module, [clip]) for clip in clips])

    assert np.abs(together - alone).max() <= 1e-5  # the contract's tolerance


def test_predictions_are_written_for_comparison(tmp_path: Path) -> None:
    videos = [coloured(0, 0), coloured(0, 1)]
    _, scores = measure_videos(make_tiny(), videos)

    write_predictions(tmp_path / "predictions.csv", videos, scores, COLOURS)

    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["label"], row["answer"]) for row in rows] == [
        ("00.mp4", "red", "red"),
        ("01.mp4", "green", "red"),
    ]
    assert float(rows[0]["red"]) == pytest.approx(scores[0, 0], abs=1e-6)


def test_no_videos() -> None:
    with pytest.raises(ValueError, match="no videos"):
        measure_videos(make_tiny(), [])
