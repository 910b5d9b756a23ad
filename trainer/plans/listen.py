"""Plans the training of a classifier of sound, on labelled sounds."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch.jit import ScriptModule

from app.models.manifest import ClassifyOutput, Input
from trainer.data.checks import find_problems
from trainer.data.filling import tell
from trainer.data.golden_sound import draw_sound
from trainer.data.listing import labels_of
from trainer.data.prepare import list_videos
from trainer.data.sounds import SoundSet, decode_sounds
from trainer.data.splits import kept_apart, split_by_group
from trainer.pictures import draw_confusion
from trainer.plan import Plan, PlanOptions, Report, check_alone
from trainer.plans.evaluating import evaluate_splits, report
from trainer.plans.examples import examples
from trainer.recipe.listen import ListenRecipe
from trainer.sound_metrics import ABOUT_SOUNDS, measure_sounds
from trainer.tasks.listen import ListenTask
from trainer.tasks.teachers import load_listening_teachers
from trainer.tasks.waveforms import parts_loader, training_loader

GOLDEN_LENGTHS = (16_000, 9_000)
"""Samples of each golden sound: one is padded."""


def plan_listen(recipe: ListenRecipe, options: PlanOptions) -> Plan:
    """The training of a SoundClassifier.

    Raises InvalidListing for data that cannot be trained on, RecipeError for teachers of other labels.
    """
    check_alone(options)
    videos = split_by_group(list_videos(options.data), options.data.val_fraction, options.data.test_fraction)
    labels, sample_rate = labels_of(videos), recipe.input.sample_rate
    data = decode_sounds(videos, sample_rate, options.data.cache, options.data.num_processes)
    tell(data.broken, find_problems(videos, data.decoded, data.broken))
    train, val, counts = examples(partial(data.opened, labels=labels), labels)
    teachers = load_listening_teachers(options.teachers, labels)
    max_samples = round(recipe.input.max_seconds * sample_rate)
    batch_size = recipe.budget.batch_size
    return Plan(
        learner=ListenTask(recipe, options.cell, counts, teachers),
        train=training_loader(train, max_samples, batch_size, options.seed),
        val=parts_loader(val, max_samples, batch_size) if val else None,
        input=Input(media="audio", sample_rate=sample_rate, max_samples=max_samples),
        output=ClassifyOutput(labels=labels),
        golden=(draw_sound(max(GOLDEN_LENGTHS)), np.array(GOLDEN_LENGTHS)),
        summary=f"Tells {', '.join(labels[:-1])} and {labels[-1]} apart in sound.",
        num_examples=data.num_sounds(),
        kept_apart=kept_apart(videos),
        headline="macro_recall",
        evaluate=lambda module, folder: _evaluate(module, data, labels, max_samples, folder),
    )


def _evaluate(module: ScriptModule, data: SoundSet, labels: Sequence[str], max_samples: int, folder: Path) -> Report:
    evaluations = evaluate_splits(
        lambda split: data.opened(split, labels),
        lambda sounds: measure_sounds(module, sounds, max_samples),
        labels,
        folder,
    )
    name, evaluation = list(evaluations.items())[-1]
    draw_confusion(evaluation.confusion, labels, f"confusion, {name}", folder / "pictures" / "confusion.png")
    return report(evaluations, labels, ABOUT_SOUNDS)
