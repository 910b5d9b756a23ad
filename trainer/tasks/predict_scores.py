"""Scores of forecasts and of copying the last frame, by the definitions of the benchmarks."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.tables import table
from trainer.tasks.similarity import structural_similarity

STEPS = (1, 3, 5, 10)
"""Frames ahead that tables show."""
STILL_DECIBELS = 45.0
"""Clips that copying forecasts better than this hardly move: they change mostly by compression. They count apart."""
OPENSTL_DATA_RANGE = 2.0
"""The default of scikit-image up to 0.19 for floats, which OpenSTL pins: its SSIM is that of pictures in [-1, 1], and
a little kinder than that of [0, 1]."""

Forecast = Callable[[NDArray[np.uint8], int], NDArray[np.float32]]
"""frames observed (T,H,W,3), horizon -> frames to come (horizon,H,W,3) in [0,1]."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one method on one set of clips, by clip and step ahead: each is (N, horizon)."""

    squared: NDArray[np.float64]
    """Mean squared error of pixels in [0,1]."""
    absolute: NDArray[np.float64]
    similarity: NDArray[np.float64]
    """SSIM, or OpenSTL's."""

    def psnr(self) -> NDArray[np.float64]:
        """(horizon,) in dB, of errors pooled over the clips; infinite where there are none."""
        with np.errstate(divide="ignore"):
            psnr: NDArray[np.float64] = -10.0 * np.log10(self.squared.mean(axis=0))
        return psnr

    def of(self, chosen: NDArray[np.bool_]) -> "Scores":
        """Of the clips (N,) that are chosen."""
        return Scores(self.squared[chosen], self.absolute[chosen], self.similarity[chosen])


def by_module(module: Any) -> Forecast:
    """What a scripted forecaster answers."""

    def forecast(observed: NDArray[np.uint8], horizon: int) -> NDArray[np.float32]:
        with torch.inference_mode():
            answer: torch.Tensor = module(torch.from_numpy(observed)[None], torch.tensor([len(observed)]), horizon)
        return answer[0].numpy()

    return forecast


def copy_last(observed: NDArray[np.uint8], horizon: int) -> NDArray[np.float32]:
    """The last frame, again and again."""
    return np.repeat(observed[-1:].astype(np.float32) / 255.0, horizon, axis=0)


def black(observed: NDArray[np.uint8], horizon: int) -> NDArray[np.float32]:
    """Nothing."""
    return np.zeros((horizon, *observed.shape[1:]), np.float32)


def score(forecast: Forecast, clips: Iterable[NDArray[np.uint8]], num_observed: int, data_range: float = 1.0) -> Scores:
    """The scores of `forecast` on clips (T,H,W,3), of which the first `num_observed` frames are shown to it."""
    squared, absolute, similarity = [], [], []
    for clip in clips:
        truth = clip[num_observed:].astype(np.float32) / 255.0
        answer = forecast(clip[:num_observed], len(truth))
        errors = answer.astype(np.float64) - truth
        squared.append((errors**2).mean(axis=(1, 2, 3)))
        absolute.append(np.abs(errors).mean(axis=(1, 2, 3)))
        first, second = (torch.from_numpy(frames).permute(0, 3, 1, 2) for frames in (answer, truth))
        similarity.append(structural_similarity(first, second, data_range).double().numpy())
    return Scores(np.stack(squared), np.stack(absolute), np.stack(similarity))


def hardly_moves(copied: Scores) -> NDArray[np.bool_]:
    """(N,): which clips hardly move, by the scores of copying on them."""
    still: NDArray[np.bool_] = copied.squared.mean(axis=1) < 10.0 ** (-STILL_DECIBELS / 10.0)
    return still


def video_metrics(forecast: Scores, copied: Scores) -> dict[str, float]:
    """PSNR (dB) and SSIM of the clips that move, by step ahead, beside those of copying; and of the others."""
    moving = ~hardly_moves(copied)
    metrics: dict[str, float] = {"num_clips": int(moving.sum()), "num_still_clips": int((~moving).sum())}
    for name, scores in (("", forecast), ("copy_", copied)):
        if moving.any():
            psnr, similarity = scores.of(moving).psnr(), scores.of(moving).similarity.mean(axis=0)
            metrics |= {f"{name}psnr_{step}": float(psnr[step - 1]) for step in STEPS if step <= len(psnr)}
            metrics |= {f"{name}ssim_{step}": float(similarity[step - 1]) for step in STEPS if step <= len(psnr)}
    if not moving.all():
        still = forecast.of(~moving).psnr() - copied.of(~moving).psnr()
        metrics["still_psnr_over_copy"] = float(np.nan_to_num(still).min())
    return metrics


def digit_metrics(scores: Scores, num_pixels: int) -> dict[str, float]:
    """MSE and MAE summed over a frame's pixels, averaged over frames and sequences, and SSIM, as in OpenSTL."""
    return {
        "mse": float(scores.squared.mean()) * num_pixels,
        "mae": float(scores.absolute.mean()) * num_pixels,
        "ssim": float(scores.similarity.mean()),
    }


def video_table(sets: Mapping[str, Mapping[str, Scores]]) -> str:
    """Markdown: by set and method, PSNR and SSIM at some steps ahead. A set needs the method `copy last`."""
    rows = [["set", "method", *(f"PSNR {step}" for step in STEPS), *(f"SSIM {step}" for step in STEPS)]]
    for name, methods in sets.items():
        still = hardly_moves(methods["copy last"])
        for chosen, what in ((~still, name), (still, f"{name}, hardly moving")):
            if chosen.any():
                count = f"{what}, n = {chosen.sum()}"
                rows += [[count, method, *_row(scores.of(chosen))] for method, scores in methods.items()]
    return table(rows)


def _row(scores: Scores) -> list[str]:
    psnr, similarity = scores.psnr(), scores.similarity.mean(axis=0)
    steps = [step - 1 if step <= len(psnr) else None for step in STEPS]
    shown = ["" if step is None else "∞" if math.isinf(psnr[step]) else f"{psnr[step]:.2f}" for step in steps]
    return [*shown, *("" if step is None else f"{similarity[step]:.3f}" for step in steps)]
