"""Evaluates a classifier of video or sound at the end of its training."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.data.cache import CachedVideo
from trainer.data.listing import Split
from trainer.data.prepare import DataSet
from trainer.metrics import Evaluation, Example, results, write_predictions
from trainer.plan import Report
from trainer.video_metrics import ABOUT_VIDEOS

NOTHING_HELD_BACK = "Nothing was held back: its figures are of the files it was trained on, and say nothing of others."

E = TypeVar("E", bound=Example)


def evaluate_splits(
    opened: Callable[[Split], Sequence[E]],
    measure: Callable[[Sequence[E]], tuple[Evaluation, NDArray[np.float32]]],
    labels: Sequence[str],
    folder: Path,
) -> dict[str, Evaluation]:
    """Evaluations on `val` and, this once, on `test`, or on `train` if nothing was held back.

    Writes the answers to `val` and `test` to the run's folder.
    """
    evaluations: dict[str, Evaluation] = {}
    splits: tuple[Split, ...] = ("val", "test")
    for split in splits:
        if examples := opened(split):
            evaluations[split], scores = measure(examples)
            write_predictions(folder / f"predictions_{split}.csv", examples, scores, labels)
    return evaluations or {"train": measure(opened("train"))[0]}


def evaluate_videos(
    data: DataSet, measure: Callable[[Sequence[CachedVideo]], tuple[Evaluation, NDArray[np.float32]]], folder: Path
) -> Report:
    """The report on a classifier of video, by split of the data."""
    return report(evaluate_splits(data.opened, measure, data.labels, folder), data.labels, ABOUT_VIDEOS)


def report(evaluations: dict[str, Evaluation], labels: Sequence[str], about: str) -> Report:
    """The report on evaluations, given by the name of their set; `about` says how they were measured."""
    found = evaluations.get("test") or evaluations.get("val")
    if found:
        off = f"{found.calibration_error:.3f}"
        worth = f"Its scores are off by {off} on average on files like its own, and mean less on others."
    else:
        worth = NOTHING_HELD_BACK
    return Report(
        metrics={name: evaluation.metrics() for name, evaluation in evaluations.items()},
        text=results(evaluations, labels, about),
        limits=(
            f"It answers with one of its {len(labels)} labels whatever a file holds, never with none of them.",
            worth,
        ),
    )
