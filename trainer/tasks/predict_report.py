"""How good a compiled forecaster is on held-back data: tables, pictures and limits for its card."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch.jit import ScriptModule

from trainer.data.generators import MotionStyle, draw_motion
from trainer.data.moving_mnist import DIGIT_SIDE, SIDE, draw_sequence
from trainer.plan import Report
from trainer.tables import table
from trainer.tasks.predict_clips import MiddleClips
from trainer.tasks.predict_pictures import draw_strips
from trainer.tasks.predict_scores import (
    OPENSTL_DATA_RANGE,
    STEPS,
    STILL_DECIBELS,
    black,
    by_module,
    copy_last,
    digit_metrics,
    hardly_moves,
    score,
    video_metrics,
    video_table,
)

PICTURES = "pictures"  # what a card shows
NUM_PICTURES = 4
PICTURE_SEED = 0
DRAWN_RATE = 15
ABOUT_VIDEOS = f"""\
PSNR in dB of errors pooled over clips, and SSIM, by frames ahead; the middle of each video. Clips that copying the last
frame forecasts better than {STILL_DECIBELS:g} dB hardly move and are told apart."""
ABOUT_DIGITS = """\
MSE and MAE are summed over the frame's pixels in [0,1] and averaged over frames and sequences, SSIM is that of
scikit-image up to 0.19 for floats: the definitions of OpenSTL. `val` is drawn from digits not trained on; no epoch was
chosen by it unless training stopped early."""
VIDEO_LIMITS = (
    "Beyond a few frames the future is open: what it cannot know comes out blurred or stands still.",
    "Where little moves it hardly dares to forecast: it may be a tenth of a dB behind copying the last frame.",
    "A cut cannot be foreseen; after one it needs a few frames to trust its own forecasts again.",
    "Nobody's intentions are known to it: it carries on the motion that it sees.",
)
DIGIT_LIMITS = (
    "It knows bright things that drift on black and bounce off the picture's edges, and nothing else.",
    "Its training took hours of one core, where those in the literature have many hours on a GPU: ConvLSTM-S "
    "makes an MSE of 29.8 with 15.0M parameters (OpenSTL's table, 200 epochs).",
)


def report_videos(module: ScriptModule, sets: Mapping[str, MiddleClips], num_observed: int, folder: Path) -> Report:
    """Compares it on each set's clips with copying the last frame. Pictures of the clips stay in the run's folder.

    The card's pictures are of drawn video, so that nobody's footage is handed on with the model.
    """
    found, metrics = {}, {}
    for name, clips in sets.items():
        frames = [clips[index].numpy() for index in range(len(clips))]
        forecast = score(by_module(module), frames, num_observed)
        copied = score(copy_last, frames, num_observed)
        found[name] = {"copy last": copied, "forecast": forecast}
        metrics[name] = video_metrics(forecast, copied)
        moving = np.flatnonzero(~hardly_moves(copied))
        alike = [frames[index] for index in moving if frames[index].shape == frames[moving[0]].shape]
        _draw(module, alike, num_observed, folder / f"forecast_{name}.png")
    _draw(module, _drawn_clips(num_observed), num_observed, folder / PICTURES / "forecast_of_drawn_video.png")
    text = f"{video_table(found)}\n\n{ABOUT_VIDEOS}" if found else "Nothing was held back."
    return Report(metrics, text, VIDEO_LIMITS)


def report_digits(
    module: ScriptModule, sets: Mapping[str, Sequence[NDArray[np.uint8]]], num_observed: int, folder: Path
) -> Report:
    """Compares it on each set's sequences with copying the last frame and with black. Their pictures stay in the run's
    folder.

    The card's pictures are of a font's digits that drift in the same way, so that nobody's handwriting is handed on.
    """
    rows = [["set", "method", "MSE", "MAE", "SSIM"]]
    metrics: dict[str, dict[str, float]] = {name: {} for name in sets}
    methods = (("black", "black_", black), ("copy last", "copy_", copy_last), ("forecast", "", by_module(module)))
    for name, sequences in sets.items():
        for method, prefix, forecast in methods:
            answers = score(forecast, sequences, num_observed, OPENSTL_DATA_RANGE)
            found = digit_metrics(answers, SIDE * SIDE)
            metrics[name] |= {f"{prefix}{key}": value for key, value in found.items()}
            shown = [f"{found['mse']:.1f}", f"{found['mae']:.1f}", f"{found['ssim']:.3f}"]
            rows.append([f"{name}, n = {len(sequences)}", method, *shown])
        _draw(module, sequences, num_observed, folder / f"forecast_{name}.png")
    _draw(module, _drawn_digits(num_observed), num_observed, folder / PICTURES / "forecast_of_drawn_digits.png")
    return Report(metrics, f"{table(rows)}\n\n{ABOUT_DIGITS}", DIGIT_LIMITS)


def _drawn_clips(num_observed: int) -> list[NDArray[np.uint8]]:
    """(T,H,W,3) each: shapes that move on evenly."""
    style = MotionStyle(width=128, height=96, min_seconds=2.0)
    clips = []
    for index, label in enumerate(("right", "up", "left")):
        video = draw_motion(label, DRAWN_RATE, style, np.random.default_rng((PICTURE_SEED, index)))
        clips.append(np.stack(list(itertools.islice(video, num_observed + STEPS[-1]))))
    return clips


def _drawn_digits(num_observed: int) -> list[NDArray[np.uint8]]:
    """(T,64,64,3) each: digits of Pillow's font that drift and bounce."""
    font = ImageFont.load_default(size=26)
    digits = []
    for digit in "0123456789":
        picture = Image.new("L", (DIGIT_SIDE, DIGIT_SIDE))
        ImageDraw.Draw(picture).text((DIGIT_SIDE / 2, DIGIT_SIDE / 2), digit, 255, font, anchor="mm", stroke_width=1)
        digits.append(np.asarray(picture))
    generator, num_frames = np.random.default_rng(PICTURE_SEED), num_observed + STEPS[-1]
    drawn = [draw_sequence(np.stack(digits), num_frames, generator) for _ in range(NUM_PICTURES)]
    return [np.repeat(frames[..., None], 3, axis=3) for frames in drawn]


def _draw(module: ScriptModule, clips: Sequence[NDArray[np.uint8]], num_observed: int, path: Path) -> None:
    """A few of the clips, evenly from all of them."""
    if clips:
        shown = clips[:: max(1, len(clips) // NUM_PICTURES)][:NUM_PICTURES]
        forecast = by_module(module)
        answers = [forecast(frames[:num_observed], len(frames) - num_observed) for frames in shown]
        draw_strips(list(zip(shown, answers, strict=True)), num_observed, path)
