"""How good a scripted classifier is on clips sampled as the service samples them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from trainer.data.cache import CachedVideo
from trainer.data.sounds import CachedSound
from trainer.tables import percent, table

CALIBRATION_BINS = 15  # Guo et al. 2017, https://arxiv.org/abs/1706.04599
SHUFFLE_SEED = 0
BATCH_SIZE = 16
ABOUT_RESULTS = (
    "Measured on the published file. One frame: the middle frame in the place of all others. "
    "Shuffled: the frames in a random order."
)


class Evaluation(BaseModel):
    """One model on one set of videos. Shares are in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_videos: int
    accuracy: float
    macro_recall: float
    """Mean over the classes that occur of the share found: what accuracy would be were they balanced."""
    calibration_error: float
    """Expected calibration error: how far the score of the answer is from the share of right answers."""
    majority_share: float
    """Accuracy of always answering the most frequent class."""
    accuracy_one_frame: float
    """Control: the middle frame in the place of all others, so nothing moves."""
    accuracy_shuffled: float
    """Control: the frames in a random order, the same at every evaluation."""
    confusion: tuple[tuple[int, ...], ...]
    """[truth][answer]"""

    def metrics(self) -> dict[str, float]:
        """The single figures, for the manifest."""
        return {name: value for name, value in self.model_dump().items() if isinstance(value, int | float)}


def measure(module: Any, videos: Sequence[CachedVideo], num_labels: int) -> tuple[Evaluation, NDArray[np.float32]]:
    """The evaluation of a scripted classifier, and its scores (len(videos), K).

    Raises ValueError without videos.
    """
    if not videos:
        raise ValueError("no videos to evaluate with")
    clips = [video.clip for video in videos]
    truth = torch.tensor([video.label for video in videos])
    scores = score_clips(module, clips)
    confusion = multiclass_confusion_matrix(torch.from_numpy(scores), truth, num_labels).numpy()
    occurrences = confusion.sum(axis=1)
    recall = np.diag(confusion)[occurrences > 0] / occurrences[occurrences > 0]
    return (
        Evaluation(
            num_videos=len(videos),
            accuracy=_accuracy(scores, truth),
            macro_recall=float(recall.mean()),
            calibration_error=float(
                multiclass_calibration_error(torch.from_numpy(scores), truth, num_labels, CALIBRATION_BINS)
            ),
            majority_share=float(occurrences.max() / len(videos)),
            accuracy_one_frame=_accuracy(score_clips(module, [_one_frame(clip) for clip in clips]), truth),
            accuracy_shuffled=_accuracy(
                score_clips(module, [_shuffled(clip, index) for index, clip in enumerate(clips)]), truth
            ),
            confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        ),
        scores,
    )


def score_clips(module: Any, clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Softmax scores (len(clips), K) of clips (T, H, W, 3) that all have one shape."""
    batches = []
    with torch.inference_mode():
        for start in range(0, len(clips), BATCH_SIZE):
            frames = torch.from_numpy(np.stack(clips[start : start + BATCH_SIZE]))
            lengths = torch.full((frames.shape[0],), frames.shape[1])
            batches.append(module(frames, lengths).softmax(dim=1).numpy())
    return np.concatenate(batches)


def results(evaluations: Mapping[str, Evaluation], labels: Sequence[str]) -> str:
    """Tables of evaluations by the name of their set, Markdown: figures, then confusions."""
    rows = [
        [
            name,
            str(evaluation.num_videos),
            percent(evaluation.accuracy),
            percent(evaluation.macro_recall),
            f"{evaluation.calibration_error:.3f}",
            percent(evaluation.majority_share),
            percent(evaluation.accuracy_one_frame),
            percent(evaluation.accuracy_shuffled),
        ]
        for name, evaluation in evaluations.items()
    ]
    heading = ["set", "videos", "accuracy", "macro recall", "calibration error", "most frequent class"]
    figures = table([[*heading, "control: one frame", "control: shuffled"], *rows])
    return "\n\n".join(
        [figures, ABOUT_RESULTS, *(_confusion(name, found, labels) for name, found in evaluations.items())]
    )


def write_predictions(
    path: Path,
    videos: Sequence[CachedVideo | CachedSound],
    scores: NDArray[np.float32],
    labels: Sequence[str],
) -> None:
    """A CSV with a row for each video or sound: path, label, answer and the scores of all labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "answer", *labels])
        for video, row in zip(videos, scores, strict=True):
            writer.writerow([video.path, labels[video.label], labels[int(row.argmax())], *(f"{x:.6f}" for x in row)])


def _accuracy(scores: NDArray[np.float32], truth: torch.Tensor) -> float:
    return float((scores.argmax(axis=1) == truth.numpy()).mean())


def _one_frame(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(clip[len(clip) // 2][None], len(clip), axis=0)


def _shuffled(clip: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    return clip[np.random.default_rng((SHUFFLE_SEED, index)).permutation(len(clip))]


def _confusion(name: str, evaluation: Evaluation, labels: Sequence[str]) -> str:
    rows = [[label, *map(str, row)] for label, row in zip(labels, evaluation.confusion, strict=True)]
    return table([[f"{name}: truth \\ answer", *labels], *rows])
