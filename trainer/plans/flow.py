"""Plans the training of a classifier of how things move, on labelled videos."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader

from app.models.manifest import ClassifyOutput, Input
from trainer.data.cache import CachedVideo
from trainer.data.decode import stream_spec
from trainer.data.generators import MotionStyle
from trainer.data.golden_motion import draw_clips
from trainer.data.prepare import decode_data, list_videos
from trainer.data.splits import kept_apart, split_by_group
from trainer.plan import Plan, PlanOptions
from trainer.plans.evaluating import evaluate_videos
from trainer.plans.examples import drops_last, examples, warn_of_mirrors
from trainer.recipe.flow import FlowRecipe
from trainer.tasks.clips import DrawSampler
from trainer.tasks.flow import FlowTask, MeasuredVideos, collate, measure_all
from trainer.video_metrics import measure_streams

GOLDEN_LENGTHS = (8, 5)
"""Valid frames of each golden clip: one is padded."""


def plan_flow(recipe: FlowRecipe, options: PlanOptions) -> Plan:
    """The training of a FlowClassifier. Raises InvalidListing for data that cannot be trained on."""
    videos = split_by_group(list_videos(options.data), options.data.val_fraction, options.data.test_fraction)
    wanted = recipe.input
    data = decode_data(videos, stream_spec(wanted.width, wanted.height, wanted.fit, wanted.rate), options.data)
    train, val, counts = examples(data.opened, data.labels)
    warn_of_mirrors(data.labels, recipe.sampling.flip, "sampling.flip")
    learner = FlowTask(recipe, options.cell, counts)
    network, batch_size = learner.network, max(1, recipe.budget.batch_size // options.num_devices)
    measured = measure_all(network, [video.frames for video in train], recipe.sampling.flip > 0)
    for one in (learner.network, learner.averaged):
        one.standardise(torch.cat([steps for steps, _ in measured]))
    style = MotionStyle(width=wanted.width, height=wanted.height)
    return Plan(
        learner=learner,
        train=DataLoader(
            MeasuredVideos(measured, _labels(train), recipe, options.seed),
            batch_size,
            sampler=DrawSampler(len(train), options.seed),
            drop_last=drops_last(len(train), batch_size, options),
            collate_fn=collate,
        ),
        val=_validation_loader(learner, val, recipe, batch_size) if val else None,
        input=Input(
            media="video", width=wanted.width, height=wanted.height, fit=wanted.fit, sampling="rate", rate=wanted.rate
        ),
        output=ClassifyOutput(labels=data.labels),
        golden=(draw_clips(max(GOLDEN_LENGTHS), 15, style), np.array(GOLDEN_LENGTHS)),
        summary=f"Tells {', '.join(data.labels[:-1])} and {data.labels[-1]} apart by how things move.",
        num_examples=data.num_videos(),
        kept_apart=kept_apart(videos),
        headline="accuracy",
        evaluate=lambda module, folder: evaluate_videos(data, partial(measure_streams, module), folder),
    )


def _validation_loader(
    learner: FlowTask, videos: Sequence[CachedVideo], recipe: FlowRecipe, batch_size: int
) -> DataLoader[tuple[torch.Tensor, int]]:
    measured = measure_all(learner.network, [video.frames for video in videos], mirrored=False)
    return DataLoader(MeasuredVideos(measured, _labels(videos), recipe, None), batch_size, collate_fn=collate)


def _labels(videos: Sequence[CachedVideo]) -> list[int]:
    return [video.label for video in videos]
