"""Plans the training of a forecaster, on videos or on handwritten digits."""

import struct
import sys
import zlib
from collections.abc import Callable
from gzip import BadGzipFile
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from app.models.manifest import Input, PredictOutput
from trainer.data.decode import CacheSpec
from trainer.data.generators import MotionStyle
from trainer.data.golden_motion import draw_clips
from trainer.data.listing import Split
from trainer.data.moving_mnist import SIDE, read_digits, read_sequences
from trainer.data.prepare import DataSet
from trainer.data.rows import InvalidListing
from trainer.data.splits import kept_apart, split_by_group
from trainer.plan import Plan, PlanOptions
from trainer.plans.unlabelled import decode_any, list_any
from trainer.recipe.predict import PredictRecipe
from trainer.tasks.clips import DrawSampler
from trainer.tasks.predict import PredictTask
from trainer.tasks.predict_clips import MiddleClips, MovingDigits, VideoClips
from trainer.tasks.predict_report import report_digits, report_videos

DIGITS = "train-images-idx3-ubyte.gz"
NUM_VAL_DIGITS = 6000  # the last of 60,000
VAL_SEED = 1_000_003
"""Added to the run's seed, so that no validation sequence is also trained on."""
SPLITS: tuple[Split, ...] = ("train", "val", "test")
GOLDEN_LENGTHS = (6, 4)
"""Valid frames of each golden clip: one is padded."""


def plan_predict(recipe: PredictRecipe, options: PlanOptions) -> Plan:
    """The training of a Forecaster. Raises InvalidListing for data that cannot be trained on."""
    plan = _plan_digits if recipe.network.made_of == "paint" else _plan_videos
    return plan(recipe, options)


def _plan_videos(recipe: PredictRecipe, options: PlanOptions) -> Plan:
    videos = split_by_group(list_any(options.data), options.data.val_fraction, options.data.test_fraction)
    side, num_observed = recipe.input.side, recipe.input.num_observed
    spec = CacheSpec(side, side, "keep", 1, side, side, recipe.input.rate)
    data = decode_any(videos, spec, options.data)
    train, val, test = (_usable(data, split, recipe) for split in SPLITS)
    num_frames = num_observed + recipe.optimisation.horizon
    held_back = {name: MiddleClips(found, num_frames) for name, found in (("val", val), ("test", test)) if found}

    return Plan(
        learner=PredictTask(recipe, options.cell),
        train=_loader(VideoClips(train, num_frames, recipe.sampling, options.seed), recipe, options),
        val=DataLoader[Tensor](held_back["val"], batch_size=1) if val else None,
        input=Input(
            media="video",
            width="any",
            height="any",
            longest_side=side,
            fit="keep",
            sampling="rate",
            clip_length=num_observed,
            rate=recipe.input.rate,
        ),
        output=PredictOutput(max_horizon=recipe.input.max_horizon),
        golden=_golden(60, 44),  # no multiples of 8: padded inside
        summary="Forecasts the frames that follow in any video.",
        num_examples={"train": len(train)} | {name: len(found) for name, found in held_back.items()},
        kept_apart=kept_apart(videos),
        headline="psnr_5",
        evaluate=lambda module, folder: report_videos(module, held_back, num_observed, folder),
    )


def _usable(data: DataSet, split: Split, recipe: PredictRecipe) -> list[NDArray[np.uint8]]:
    """The frames of the videos that are long and large enough for a clip. Names the others on standard error.

    Raises InvalidListing if a split loses all of its videos.
    """
    num_frames, side = recipe.input.num_observed + recipe.optimisation.horizon, recipe.sampling.crop
    found = []
    for video in data.opened(split):
        length, height, width = video.frames.shape[:3]
        if length < num_frames:
            reason = f"{length} frames at {recipe.input.rate:g}/s, {num_frames} needed"
        elif min(height, width) < side:
            reason = f"{width}x{height} pixels, {side}x{side} needed"
        else:
            found.append(video.frames)
            continue
        sys.stderr.write(f"left out: {video.path}: {reason}\n")
    if not found and any(video.split == split for video in data.videos):
        raise InvalidListing(f"no {split} videos of {num_frames} frames and {side} pixels are left")
    return found


def _plan_digits(recipe: PredictRecipe, options: PlanOptions) -> Plan:
    num_observed = recipe.input.num_observed
    num_frames = num_observed + recipe.optimisation.horizon
    digits = _read(read_digits, options.data.data / DIGITS, "a gzipped IDX file of digits")
    per_epoch, num_val = recipe.sampling.clips_per_epoch, recipe.sampling.num_drawn_to_validate
    clips = MovingDigits(digits[:-NUM_VAL_DIGITS], num_frames, per_epoch, options.seed)
    val = MovingDigits(digits[-NUM_VAL_DIGITS:], num_frames, num_val, options.seed + VAL_SEED)
    num_drawn = per_epoch * recipe.budget.num_epochs
    sets = {"val": [val[index].numpy() for index in range(len(val))]}
    if options.data.test_data:
        sets["test"] = list(_read(read_sequences, options.data.test_data, "an .npz file of `sequences`"))

    return Plan(
        learner=PredictTask(recipe, options.cell),
        train=_loader(clips, recipe, options),
        val=DataLoader[Tensor](val, batch_size=20),
        input=Input(
            media="video",
            width=SIDE,
            height=SIDE,
            fit="pad",
            sampling="rate",
            clip_length=num_observed,
            rate=recipe.input.rate,
        ),
        output=PredictOutput(max_horizon=recipe.input.max_horizon),
        golden=_golden(SIDE, SIDE),
        summary="Forecasts Moving MNIST: two handwritten digits that drift and bounce.",
        num_examples={"train": num_drawn} | {name: len(found) for name, found in sets.items()},
        kept_apart="handwritten digit",
        headline="mse",
        evaluate=lambda module, folder: report_digits(module, sets, num_observed, folder),
    )


def _read(read: Callable[[Path], NDArray[np.uint8]], path: Path, wanted: str) -> NDArray[np.uint8]:
    """What `read` makes of a file. Raises OSError, or InvalidListing if the file is not what is `wanted`."""
    try:
        return read(path)
    except (ValueError, EOFError, BadGzipFile, BadZipFile, struct.error, zlib.error, TypeError) as error:
        raise InvalidListing(f"{path} is not {wanted}") from error


def _loader(clips: VideoClips | MovingDigits, recipe: PredictRecipe, options: PlanOptions) -> DataLoader[Tensor]:
    batch_size = max(1, recipe.budget.batch_size // options.num_devices)
    sampler, drop_last = DrawSampler(len(clips), options.seed), len(clips) // options.num_devices >= batch_size
    return DataLoader[Tensor](clips, batch_size=batch_size, sampler=sampler, drop_last=drop_last)


def _golden(width: int, height: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    style = MotionStyle(width=width, height=height, max_speed=2.0)
    return draw_clips(max(GOLDEN_LENGTHS), 8, style), np.array(GOLDEN_LENGTHS)
