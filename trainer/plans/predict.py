"""From videos, or from handwritten digits, to a training of a forecaster."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from app.models.manifest import Input, PredictOutput
from trainer.data.decode import CacheSpec
from trainer.data.generators import MotionStyle, draw_motion
from trainer.data.listing import Split
from trainer.data.moving_mnist import SIDE, read_digits, read_sequences
from trainer.data.prepare import decode_data, list_videos
from trainer.data.rows import InvalidListing
from trainer.data.splits import kept_apart, split_by_group
from trainer.plan import Plan, PlanOptions
from trainer.recipe.predict import PredictRecipe
from trainer.tasks.clips import DrawSampler
from trainer.tasks.predict import PredictTask
from trainer.tasks.predict_clips import MiddleClips, MovingDigits, VideoClips
from trainer.tasks.predict_report import report_digits, report_videos

DIGITS = "train-images-idx3-ubyte.gz"
NUM_VAL_DIGITS = 6000  # the last of 60,000
VAL_SEED = 1_000_003
"""Added to the run's, so that sequences to validate with are none of those trained on."""
GOLDEN_SEED = 0
GOLDEN_LENGTHS = (6, 4)
"""Valid frames of each golden clip: one is padded."""


def plan_predict(recipe: PredictRecipe, options: PlanOptions) -> Plan:
    """The training of a Forecaster. Raises InvalidListing for data that cannot be trained on."""
    plan = _plan_digits if recipe.network.made_of == "paint" else _plan_videos
    return plan(recipe, options)


def _plan_videos(recipe: PredictRecipe, options: PlanOptions) -> Plan:
    listed = list_videos(options.data)
    videos = split_by_group(listed, options.data.val_fraction, options.data.test_fraction)
    side, num_observed = recipe.input.side, recipe.input.num_observed
    spec = CacheSpec(side, side, "keep", 1, side, side, recipe.input.rate)
    data = decode_data(videos, spec, options.data)
    num_frames = num_observed + recipe.optimisation.horizon

    def usable(split: Split) -> list[NDArray[np.uint8]]:
        frames = [video.frames for video in data.opened(split)]
        return [video for video in frames if len(video) >= num_frames and min(video.shape[1:3]) >= recipe.sampling.crop]

    train, val, test = usable("train"), usable("val"), usable("test")
    if not train:
        raise InvalidListing(f"no videos of {num_frames} frames and {recipe.sampling.crop} pixels to train on")
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
        golden=(_golden_frames(60, 44), np.array(GOLDEN_LENGTHS)),  # no multiples of 8: padded inside
        summary="Forecasts the frames that follow in any video.",
        num_examples={"train": len(train)} | {name: len(found) for name, found in held_back.items()},
        kept_apart=kept_apart(videos),
        headline="psnr_5",
        evaluate=lambda module, folder: report_videos(module, held_back, num_observed, folder),
    )


def _plan_digits(recipe: PredictRecipe, options: PlanOptions) -> Plan:
    num_observed = recipe.input.num_observed
    num_frames = num_observed + recipe.optimisation.horizon
    digits = read_digits(options.data.data / DIGITS)
    per_epoch, num_val = recipe.sampling.clips_per_epoch, recipe.sampling.num_drawn_to_validate
    clips = MovingDigits(digits[:-NUM_VAL_DIGITS], num_frames, per_epoch, options.seed)
    val = MovingDigits(digits[-NUM_VAL_DIGITS:], num_frames, num_val, options.seed + VAL_SEED)
    num_drawn = per_epoch * recipe.budget.num_epochs
    sets = {"val": [val[index].numpy() for index in range(len(val))]}
    if options.data.test_data:
        sets["test"] = list(read_sequences(options.data.test_data))

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
        golden=(_golden_frames(SIDE, SIDE), np.array(GOLDEN_LENGTHS)),
        summary="Forecasts Moving MNIST: two handwritten digits that drift and bounce.",
        num_examples={"train": num_drawn} | {name: len(found) for name, found in sets.items()},
        kept_apart="handwritten digit",
        headline="mse",
        evaluate=lambda module, folder: report_digits(module, sets, num_observed, folder),
    )


def _loader(clips: VideoClips | MovingDigits, recipe: PredictRecipe, options: PlanOptions) -> DataLoader[Tensor]:
    batch_size = max(1, recipe.budget.batch_size // options.num_devices)
    sampler = DrawSampler(len(clips), options.seed)
    return DataLoader[Tensor](clips, batch_size=batch_size, sampler=sampler, drop_last=len(clips) >= batch_size)


def _golden_frames(width: int, height: int) -> NDArray[np.uint8]:
    """(B, T, H, W, 3): drawn, so that no frame of anyone's data is handed on with the model."""
    style = MotionStyle(width=width, height=height, max_speed=2.0)
    clips = []
    for index, label in enumerate(("right", "up")[: len(GOLDEN_LENGTHS)]):
        video = draw_motion(label, 8, style, np.random.default_rng((GOLDEN_SEED, index)))
        clips.append(np.stack([next(video) for _ in range(max(GOLDEN_LENGTHS))]))
    return np.stack(clips)
