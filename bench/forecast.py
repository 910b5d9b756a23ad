"""Compares a served forecaster with copying the last frame and with extrapolating optical flow.

python -m bench.forecast videos --data DATA.csv --split test       # or --data FOLDER of any clips
python -m bench.forecast surprise --data DATA.csv --split test     # frames spliced into videos: are they found?
python -m bench.forecast digits --data moving_mnist.npz --model forecast-mnist

It runs the file in the store as the service does. Needs the extra `bench` (OpenCV, for its DIS flow).
"""

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from app.models.store import ServedModel, list_versions, load_version
from trainer.data.cache import decode_all, open_video
from trainer.data.decode import CacheSpec
from trainer.data.listing import Video, read_listing
from trainer.data.moving_mnist import SIDE, read_sequences
from trainer.tables import table
from trainer.tasks.predict_clips import MiddleClips
from trainer.tasks.predict_scores import (
    OPENSTL_DATA_RANGE,
    STEPS,
    STILL_DECIBELS,
    Forecast,
    Scores,
    black,
    by_module,
    copy_last,
    digit_metrics,
    score,
    video_table,
)

HORIZON = 10
MIN_SIDE = 32  # pixels: below, OpenCV's DIS has no pyramid to work on
NUM_SPLICED_FRAMES = 40
"""Frames of each video, for surprise: one of them is spliced in."""
AWAY = 15  # frames
SEED = 0
BANDS = (0.0, 20.0, 25.0, 30.0, 35.0, STILL_DECIBELS, np.inf)
"""Limits between kinds of clips, from wild to still, by the dB of copying the last frame."""


def extrapolate_flow(observed: NDArray[np.uint8], horizon: int) -> NDArray[np.float32]:
    """DIS flow (Kroeger et al. 2016, medium preset) from the last frame to the one before, carried on at its speed."""
    before, last = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in observed[-2:])
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(last, before, None)
    y, x = np.mgrid[: last.shape[0], : last.shape[1]].astype(np.float32)
    picture = observed[-1].astype(np.float32) / 255.0
    moved = []
    for step in range(1, horizon + 1):
        from_x, from_y = x + step * flow[..., 0], y + step * flow[..., 1]
        moved.append(cv2.remap(picture, from_x, from_y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE))
    return np.stack(moved)


def compare_videos(model: ServedModel, videos: Sequence[NDArray[np.uint8]], name: str) -> str:
    """PSNR and SSIM of all methods, and where the forecast beats copying or falls behind it."""
    num_observed = model.manifest.input.clip_length or 0
    clips = MiddleClips(videos, num_observed + HORIZON)
    frames = [clips[index].numpy() for index in range(len(clips))]
    methods: dict[str, Forecast] = {
        "copy last": copy_last,
        "DIS flow": extrapolate_flow,
        "forecast": by_module(model.module),
    }
    found = {method: score(forecast, frames, num_observed) for method, forecast in methods.items()}
    return f"{video_table({name: found})}\n\n{_gains(found['forecast'], found['copy last'])}"


def _gains(forecast: Scores, copied: Scores) -> str:
    """The forecast's lead over copying, in dB, by how well copying does."""
    decibels = -10 * np.log10(copied.squared.mean(axis=1).clip(min=1e-12))
    rows = [["copy last, dB", "clips", *(f"forecast over copy, step {step}" for step in STEPS)]]
    for low, high in itertools.pairwise(BANDS):
        chosen = (decibels >= low) & (decibels < high)
        if chosen.any():
            with np.errstate(invalid="ignore"):  # both are perfect
                gain = np.nan_to_num(forecast.of(chosen).psnr() - copied.of(chosen).psnr())
            rows.append([f"{low:g} to {high:g}", str(chosen.sum()), *(f"{gain[step - 1]:+.2f}" for step in STEPS)])
    return table(rows)


def find_spliced(model: ServedModel, videos: Sequence[NDArray[np.uint8]], same: bool) -> str:
    """Area under the ROC curve of surprise (the error of the next frame's forecast) and of plain frame differences.

    One frame of each video is replaced by one of another video, or by one of the `same` video a second away. It is to
    be told from all other frames except the one after it, which is a change as well.
    """
    generator = np.random.default_rng(SEED)
    spliced: list[bool] = []
    surprise: list[float] = []
    difference: list[float] = []
    usable = [video[:NUM_SPLICED_FRAMES] for video in videos if len(video) >= NUM_SPLICED_FRAMES]
    for index, video in enumerate(usable):
        at = int(generator.integers(10, len(video) - 10))
        alike = [other for place, other in enumerate(usable) if place != index and other.shape == video.shape]
        if same:
            foreign = video[at + AWAY if at + AWAY < len(video) else at - AWAY]
        elif alike:
            other = alike[int(generator.integers(len(alike)))]
            foreign = other[int(generator.integers(len(other)))]
        else:
            continue
        frames = video.copy()
        frames[at] = foreign
        pictures = torch.from_numpy(frames / np.float32(255.0))
        with torch.inference_mode():
            state = model.module.initial_state(1, frames.shape[1], frames.shape[2])
            forecast, _ = model.module.step(torch.from_numpy(frames)[None], torch.tensor([len(frames)]), state)
        told = (forecast[0, :-1] - pictures[1:]).square().mean(dim=(1, 2, 3))
        plain = (pictures[:-1] - pictures[1:]).square().mean(dim=(1, 2, 3))
        kept = [place for place in range(2, len(frames)) if place != at + 1]
        spliced += [place == at for place in kept]
        surprise += [float(told[place - 1]) for place in kept]
        difference += [float(plain[place - 1]) for place in kept]
    truth = np.array(spliced)
    rows = [["score", "AUC"]]
    for name, values in (("surprise", surprise), ("frame difference", difference)):
        rows.append([name, f"{area_under_curve(np.array(values), truth):.4f}"])
    return f"{int(truth.sum())} spliced of {len(truth)} frames\n\n{table(rows)}"


def area_under_curve(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The chance that a random true value exceeds a random other one; ties count half."""
    others = np.sort(values[~truth])
    below = np.searchsorted(others, values[truth], side="left")
    not_above = np.searchsorted(others, values[truth], side="right")
    return float((below + not_above).mean() / 2 / len(others))


def compare_digits(model: ServedModel, sequences: NDArray[np.uint8]) -> str:
    """OpenSTL's figures, each step's squared error, and what a forecast costs."""
    num_observed = model.manifest.input.clip_length or 0
    rows = [["method", "MSE", "MAE", "SSIM", *(f"MSE {step}" for step in STEPS)]]
    methods: dict[str, Forecast] = {"black": black, "copy last": copy_last, "forecast": by_module(model.module)}
    for name, forecast in methods.items():
        scores = score(forecast, sequences, num_observed, OPENSTL_DATA_RANGE)
        found = digit_metrics(scores, SIDE * SIDE)
        steps = (f"{scores.squared[:, step - 1].mean() * SIDE * SIDE:.1f}" for step in STEPS)
        rows.append([name, f"{found['mse']:.1f}", f"{found['mae']:.1f}", f"{found['ssim']:.3f}", *steps])
    return f"{table(rows)}\n\n{cost(model.module, sequences[0, :num_observed])}"


def cost(module: Any, observed: NDArray[np.uint8]) -> str:
    """Multiplications and additions of a forecast of 10 frames, and its time on one thread."""
    frames, lengths = torch.from_numpy(observed)[None], torch.tensor([len(observed)])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(frames, lengths, HORIZON)
    with torch.inference_mode():
        started = time.process_time()
        module(frames, lengths, HORIZON)
    height, width = observed.shape[1:3]
    return (
        f"{len(observed)} -> {HORIZON} frames of {width}x{height}: {counter.get_total_flops() / 1e9:.1f} GFLOPs, "
        f"{time.process_time() - started:.2f} CPU seconds"
    )


def decoded(options: argparse.Namespace, model: ServedModel) -> list[NDArray[np.uint8]]:
    """The frames of the videos that are long and large enough, as the service would sample them."""
    side, rate = model.manifest.input.longest_side, model.manifest.input.rate
    assert side
    assert rate
    spec = CacheSpec(side, side, "keep", 1, side, side, rate)
    listed = _listed(options)
    if options.count:
        listed = [listed[index] for index in np.linspace(0, len(listed) - 1, options.count).astype(int)]
    found, broken = decode_all(listed, spec, options.cache, 1)
    labels = sorted({item.video.label for item in found})
    frames = [open_video(item, labels).frames for item in found]
    needed = (model.manifest.input.clip_length or 0) + HORIZON
    usable = [video for video in frames if len(video) >= needed and min(video.shape[1:3]) >= MIN_SIDE]
    print(f"{len(usable)} videos; {len(broken)} are none, {len(frames) - len(usable)} are too short or too small\n")
    return usable


def _listed(options: argparse.Namespace) -> list[Video]:
    if options.data.is_dir():
        return [Video(path, "any", path.name) for path in sorted(options.data.iterdir()) if path.is_file()]
    return [video for video in read_listing(options.data, extra_columns=True) if video.split == options.split]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["videos", "surprise", "digits"])
    parser.add_argument("--data", type=Path, required=True, help="a CSV or a folder of videos; for digits an .npz")
    parser.add_argument("--split", default="test", help="of a CSV")
    parser.add_argument("--count", type=int, help="of the videos, evenly from all (default: all)")
    parser.add_argument("--same", action="store_true", help="for surprise: splice in frames of the same video")
    parser.add_argument("--model", default="forecast")
    parser.add_argument("--store", type=Path, default=Path("model_store"))
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder = options.store / options.model
    model = load_version(folder / list_versions(options.store, options.model)[-1])
    if options.what == "digits":
        print(compare_digits(model, read_sequences(options.data)))
        return
    videos = decoded(options, model)
    if options.what == "surprise":
        print(find_spliced(model, videos, options.same))
    else:
        print(compare_videos(model, videos, options.data.stem))
        print(f"\n{cost(model.module, videos[0][:10])}")


if __name__ == "__main__":
    main()
