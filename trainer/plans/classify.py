"""Plans the training of a classifier of video, on labelled videos."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch.utils.data import DataLoader

from app.models.manifest import ClassifyOutput, Input
from trainer.data.cache import CachedVideo
from trainer.data.generators import MotionStyle
from trainer.data.golden_motion import draw_clips
from trainer.data.prepare import cache_spec, decode_data, list_videos
from trainer.data.splits import kept_apart, split_by_group
from trainer.plan import Plan, PlanOptions
from trainer.plans.evaluating import evaluate_videos
from trainer.plans.examples import drops_last, examples, warn_of_mirrors
from trainer.recipe.classify import ClassifyRecipe
from trainer.tasks.classify import ClassifyTask
from trainer.tasks.clips import Clip, DrawSampler, ServedClips, TrainingClips
from trainer.tasks.teachers import load_teachers
from trainer.video_metrics import measure_videos

GOLDEN_LENGTHS = (6, 4)
"""Valid frames of each golden clip: one is padded."""


def plan_classify(recipe: ClassifyRecipe, options: PlanOptions) -> Plan:
    """The training of a VideoClassifier.

    Raises InvalidListing for data that cannot be trained on, RecipeError for teachers of other labels.
    """
    listed = list_videos(options.data)
    videos = split_by_group(listed, options.data.val_fraction, options.data.test_fraction)
    data = decode_data(videos, cache_spec(recipe), options.data)
    train, val, counts = examples(data.opened, data.labels)
    warn_of_mirrors(data.labels, recipe.augmentation.flip, "augmentation.flip")
    batch_size = max(1, recipe.budget.batch_size // options.num_devices)
    teachers = load_teachers(options.teachers, data.labels)
    wanted = recipe.input
    style = MotionStyle(width=wanted.width, height=wanted.height, max_speed=2.0)
    return Plan(
        learner=ClassifyTask(recipe, options.cell, counts, teachers),
        train=_training_loader(train, recipe, options, batch_size),
        val=DataLoader[Clip](ServedClips(val), batch_size=batch_size) if val else None,
        input=Input(
            media="video",
            width=wanted.width,
            height=wanted.height,
            fit=wanted.fit,
            sampling="uniform",
            clip_length=wanted.clip_length,
            rate=wanted.rate,
            trained_for_key_frames=recipe.sampling.key_share > 0,
        ),
        output=ClassifyOutput(labels=data.labels),
        golden=(draw_clips(max(GOLDEN_LENGTHS), 8, style), np.array(GOLDEN_LENGTHS)),
        summary=f"Tells {', '.join(data.labels[:-1])} and {data.labels[-1]} apart in video.",
        num_examples=data.num_videos(),
        kept_apart=kept_apart(videos),
        headline="accuracy",
        evaluate=lambda module, folder: evaluate_videos(data, partial(measure_videos, module), folder),
    )


def _training_loader(
    videos: Sequence[CachedVideo], recipe: ClassifyRecipe, options: PlanOptions, batch_size: int
) -> DataLoader[Clip]:
    drop_last = drops_last(len(videos), batch_size, options)
    clips, sampler = TrainingClips(videos, recipe, options.seed), DrawSampler(len(videos), options.seed)
    return DataLoader(clips, batch_size=batch_size, sampler=sampler, drop_last=drop_last)
