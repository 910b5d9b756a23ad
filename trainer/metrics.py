"""How good a classifier's scores are, whether it sees or hears."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from trainer.tables import percent, table

CALIBRATION_BINS = 15  # Guo et al. 2017, https://arxiv.org/abs/1706.04599
BATCH_SIZE = 16
SHUFFLE_SEED = 0


class Example(Protocol):
    """What was judged: a CachedVideo or a CachedSound."""

    @property
    def path(self) -> str: ...

    @property
    def label(self) -> int: ...


class Evaluation(BaseModel):
    """One model on one set of examples. Shares are in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_examples: int
    accuracy: float
    macro_recall: float
    """Recall, averaged over the classes that occur: what accuracy would be if they were balanced."""
    calibration_error: float
    """Expected calibration error: how far the score of the answer is from the share of right answers."""
    majority_share: float
    """Accuracy of always answering the most frequent class."""
    controls: dict[str, float]
    """Accuracy, by what was taken away from the examples."""
    confusion: tuple[tuple[int, ...], ...]
    """[truth][answer]"""

    def metrics(self) -> dict[str, float]:
        """The single figures, for the manifest."""
        figures = {name: value for name, value in self.model_dump().items() if isinstance(value, int | float)}
        return figures | {f"accuracy_{name}": accuracy for name, accuracy in self.controls.items()}


def judge(
    examples: Sequence[Example], scores: NDArray[np.float32], controls: Mapping[str, NDArray[np.float32]]
) -> Evaluation:
    """The evaluation of scores (len(examples), K), and of those of the same examples under each control."""
    truth = torch.tensor([example.label for example in examples])
    num_labels = scores.shape[1]
    confusion = multiclass_confusion_matrix(torch.from_numpy(scores), truth, num_labels).numpy()
    occurrences = confusion.sum(axis=1)
    return Evaluation(
        num_examples=len(examples),
        accuracy=_accuracy(scores, truth),
        macro_recall=macro_recall(confusion),
        calibration_error=float(
            multiclass_calibration_error(torch.from_numpy(scores), truth, num_labels, CALIBRATION_BINS)
        ),
        majority_share=float(occurrences.max() / len(examples)),
        controls={name: _accuracy(found, truth) for name, found in controls.items()},
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def macro_recall(confusion: NDArray[np.int64]) -> float:
    """Recall, averaged over the classes that occur, from counts [truth][answer]."""
    occurrences = confusion.sum(axis=1)
    return float((np.diag(confusion)[occurrences > 0] / occurrences[occurrences > 0]).mean())


def results(evaluations: Mapping[str, Evaluation], labels: Sequence[str], about: str) -> str:
    """Markdown for evaluations by the name of their set: a table of figures, `about` as it is, confusion tables."""
    controls = list(next(iter(evaluations.values())).controls)
    rows = [
        [
            name,
            str(evaluation.num_examples),
            percent(evaluation.accuracy),
            percent(evaluation.macro_recall),
            f"{evaluation.calibration_error:.3f}",
            percent(evaluation.majority_share),
            *(percent(evaluation.controls[control]) for control in controls),
        ]
        for name, evaluation in evaluations.items()
    ]
    heading = ["set", "examples", "accuracy", "macro recall", "calibration error", "most frequent class"]
    figures = table([[*heading, *(f"control: {control.replace('_', ' ')}" for control in controls)], *rows])
    return "\n\n".join([figures, about, *(_confusion(name, found, labels) for name, found in evaluations.items())])


def write_predictions(
    path: Path, examples: Sequence[Example], scores: NDArray[np.float32], labels: Sequence[str]
) -> None:
    """A CSV with a row for each example: path, label, answer and the scores of all labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "answer", *labels])
        for example, row in zip(examples, scores, strict=True):
            answer = labels[int(row.argmax())]
            writer.writerow([example.path, labels[example.label], answer, *(f"{x:.6f}" for x in row)])


def _accuracy(scores: NDArray[np.float32], truth: torch.Tensor) -> float:
    return float((scores.argmax(axis=1) == truth.numpy()).mean())


def _confusion(name: str, evaluation: Evaluation, labels: Sequence[str]) -> str:
    rows = [[label, *map(str, row)] for label, row in zip(labels, evaluation.confusion, strict=True)]
    return table([[f"{name}: truth \\ answer", *labels], *rows])
