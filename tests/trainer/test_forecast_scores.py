"""Forecasts are scored by the benchmarks' definitions."""

import numpy as np
import pytest
import torch

from trainer.tasks.predict_scores import (
    black,
    copy_last,
    digit_metrics,
    hardly_moves,
    score,
    video_metrics,
    video_table,
)
from trainer.tasks.similarity import structural_similarity


def clips(num_clips: int, step: int, seed: int = 0) -> list[np.ndarray]:
    """(20,16,16,3) each: noise, brighter by `step` levels at each frame."""
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 40, (num_clips, 1, 16, 16, 3))
    return list((first + step * np.arange(20).reshape(1, 20, 1, 1, 1)).astype(np.uint8))


def test_errors_are_pooled_over_clips_before_they_become_decibels() -> None:
    scores = score(copy_last, [*clips(1, 1), *clips(1, 5)], num_observed=10)
    steps = np.arange(1, 11)
    expected = ((steps / 255) ** 2 + (5 * steps / 255) ** 2) / 2
    np.testing.assert_allclose(scores.squared.mean(axis=0), expected, rtol=1e-5)  # float32 pictures
    np.testing.assert_allclose(scores.psnr(), -10 * np.log10(expected), rtol=1e-5)


def test_digit_errors_are_summed_over_the_frame() -> None:
    frames = [np.full((12, 8, 8, 3), 255, np.uint8)]
    found = digit_metrics(score(black, frames, num_observed=10), num_pixels=64)
    assert found["mse"] == pytest.approx(64)
    assert found["mae"] == pytest.approx(64)


def test_clips_that_hardly_move_are_told_apart() -> None:
    frames = [*clips(2, 0), *clips(1, 8)]
    copied, dark = score(copy_last, frames, num_observed=10), score(black, frames, num_observed=10)
    assert hardly_moves(copied).tolist() == [True, True, False]
    metrics = video_metrics(dark, copied)
    assert (metrics["num_clips"], metrics["num_still_clips"]) == (1, 2)
    assert metrics["psnr_1"] < metrics["copy_psnr_1"]
    assert metrics["still_psnr_over_copy"] < -20
    told = video_table({"test": {"copy last": copied, "black": dark}})
    assert "test, n = 1 | copy last" in told
    assert "test, hardly moving, n = 2 | copy last | ∞" in told


def test_similarity_is_one_of_the_same_and_less_of_others() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(2, 3, 16, 16)
    assert structural_similarity(pictures, pictures).tolist() == pytest.approx([1, 1])
    noisy = structural_similarity(pictures, (pictures + 0.2 * torch.randn_like(pictures)).clamp(0, 1))
    assert (noisy < 0.9).all()
    other = torch.rand_like(pictures)  # the larger the range, the less a difference weighs
    assert (structural_similarity(pictures, other, 100.0) > structural_similarity(pictures, other) + 0.5).all()


def test_similarity_by_hand() -> None:
    # One window of 7x7: means 0.5 and 0.25, no variance: (2*0.125 + c1) / (0.3125 + c1), and 1 for the structure.
    first, second = torch.full((1, 1, 7, 7), 0.5), torch.full((1, 1, 7, 7), 0.25)
    assert structural_similarity(first, second).item() == pytest.approx((0.25 + 1e-4) / (0.3125 + 1e-4), rel=1e-4)
