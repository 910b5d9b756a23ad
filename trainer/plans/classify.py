"""From labelled videos to a training of a classifier of video."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.jit import ScriptModule
from torch.utils.data import DataLoader

from app.models.manifest import ClassifyOutput, Input
from trainer.data.cache import CachedVideo
from trainer.data.generators import MotionStyle, draw_motion
from trainer.data.listing import InvalidListing, Split
from trainer.data.prepare import DataSet, cache_spec, decode_data, list_videos
from trainer.data.splits import split_by_group
from trainer.metrics import Evaluation, measure, results, write_predictions
from trainer.plan import Plan, PlanOptions, Report
from trainer.recipe.classify import ClassifyRecipe
from trainer.tasks.classify import ClassifyTask
from trainer.tasks.clips import Clip, DrawSampler, ServedClips, TrainingClips

GOLDEN_SEED = 0
GOLDEN_LENGTHS = (6, 4)
"""Valid frames of each golden clip: one is padded."""


def plan_classify(recipe: ClassifyRecipe, options: PlanOptions) -> Plan:
    """The training of a VideoClassifier. Raises InvalidListing for data that cannot be trained on."""
    listed = list_videos(options.data)
    videos = split_by_group(listed, options.data.val_fraction, options.data.test_fraction)
    data = decode_data(videos, cache_spec(recipe), options.data)
    train, val = data.opened("train"), data.opened("val")
    if not train:
        raise InvalidListing("no videos to train on are left")
    counts = [sum(video.label == index for video in train) for index in range(len(data.labels))]
    batch_size = max(1, recipe.budget.batch_size // options.num_devices)
    wanted = recipe.input
    return Plan(
        learner=ClassifyTask(recipe, options.cell, counts),
        train=_training_loader(train, recipe, options.seed, batch_size),
        val=DataLoader[Clip](ServedClips(val), batch_size=batch_size) if val else None,
        input=Input(
            media="video",
            width=wanted.width,
            height=wanted.height,
            fit=wanted.fit,
            sampling="uniform",
            clip_length=wanted.clip_length,
            rate=wanted.rate,
        ),
        output=ClassifyOutput(labels=data.labels),
        golden=(_golden_frames(wanted.width, wanted.height), np.array(GOLDEN_LENGTHS)),
        summary=f"Tells {', '.join(data.labels[:-1])} and {data.labels[-1]} apart in video.",
        num_examples=data.num_videos(),
        headline="accuracy",
        evaluate=lambda module, folder: _evaluate(module, data, folder),
    )


def report(evaluations: dict[str, Evaluation], labels: Sequence[str]) -> Report:
    """What evaluations by the name of their set come to."""
    found = evaluations.get("test") or next(iter(evaluations.values()))
    return Report(
        metrics={name: evaluation.metrics() for name, evaluation in evaluations.items()},
        text=results(evaluations, labels),
        limits=(
            f"It answers with one of its {len(labels)} labels whatever a video shows, never with none of them.",
            f"Its scores are off by {found.calibration_error:.3f} on average on videos like its own, "
            "and mean less on others.",
        ),
    )


def _evaluate(module: ScriptModule, data: DataSet, folder: Path) -> Report:
    """The compiled network on `val` and, this once, on `test`; each answer is written down in the run's folder."""
    evaluations: dict[str, Evaluation] = {}
    splits: tuple[Split, ...] = ("val", "test")
    for split in splits:
        if videos := data.opened(split):
            evaluations[split], scores = measure(module, videos, len(data.labels))
            write_predictions(folder / f"predictions_{split}.csv", videos, scores, data.labels)
    if not evaluations:  # nothing was held back
        evaluations["train"], _ = measure(module, data.opened("train"), len(data.labels))
    return report(evaluations, data.labels)


def _training_loader(
    videos: Sequence[CachedVideo], recipe: ClassifyRecipe, seed: int, batch_size: int
) -> DataLoader[Clip]:
    # A last batch of one or two clips would move the weights as far as a full one.
    drop_last = len(videos) >= 2 * batch_size
    clips = TrainingClips(videos, recipe, seed)
    return DataLoader(clips, batch_size=batch_size, sampler=DrawSampler(len(videos), seed), drop_last=drop_last)


def _golden_frames(width: int, height: int) -> NDArray[np.uint8]:
    """(B, T, H, W, 3): drawn, so that no frame of anyone's data is handed on with the model."""
    style = MotionStyle(width=width, height=height, max_speed=2.0)
    clips = []
    for index, label in enumerate(("right", "up")[: len(GOLDEN_LENGTHS)]):
        video = draw_motion(label, 8, style, np.random.default_rng((GOLDEN_SEED, index)))
        clips.append(np.stack([next(video) for _ in range(max(GOLDEN_LENGTHS))]))
    return np.stack(clips)
