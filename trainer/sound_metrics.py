"""How good a scripted classifier of sound is on sounds decoded as the service decodes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

from trainer.data.sounds import CachedSound
from trainer.metrics import CALIBRATION_BINS
from trainer.tables import percent, table
from trainer.tasks.waveforms import whole_loader

BATCH_SIZE = 16
SHUFFLE_SEED = 0
PIECE_SAMPLES = 1_600  # 0.1 s
ABOUT_RESULTS = (
    "Measured on the published file. Macro recall is the mean of the classes' recalls, also called unweighted average "
    "recall. Shuffled: the sound in pieces of 0.1 s in a random order."
)


class SoundEvaluation(BaseModel):
    """One model on one set of sounds. Shares are in [0, 1]."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_sounds: int
    accuracy: float
    macro_recall: float
    """Mean over the classes that occur of the share found: what accuracy would be were they balanced."""
    calibration_error: float
    """Expected calibration error: how far the score of the answer is from the share of right answers."""
    majority_share: float
    """Accuracy of always answering the most frequent class."""
    accuracy_shuffled: float
    """Control: pieces of the sound in a random order, the same at every evaluation."""
    confusion: tuple[tuple[int, ...], ...]
    """[truth][answer]"""

    def metrics(self) -> dict[str, float]:
        """The single figures, for the manifest."""
        return {name: value for name, value in self.model_dump().items() if isinstance(value, int | float)}


def measure_sounds(
    module: Any, sounds: Sequence[CachedSound], num_labels: int, max_samples: int
) -> tuple[SoundEvaluation, NDArray[np.float32]]:
    """The evaluation of a scripted classifier, and its scores (len(sounds), K).

    Raises ValueError without sounds.
    """
    if not sounds:
        raise ValueError("no sounds to evaluate with")
    truth = torch.tensor([sound.label for sound in sounds])
    scores = score_sounds(module, sounds, max_samples)
    shuffled = [_shuffled(sound, index) for index, sound in enumerate(sounds)]
    confusion = multiclass_confusion_matrix(torch.from_numpy(scores), truth, num_labels).numpy()
    occurrences = confusion.sum(axis=1)
    recall = np.diag(confusion)[occurrences > 0] / occurrences[occurrences > 0]
    evaluation = SoundEvaluation(
        num_sounds=len(sounds),
        accuracy=_accuracy(scores, truth),
        macro_recall=float(recall.mean()),
        calibration_error=float(
            multiclass_calibration_error(torch.from_numpy(scores), truth, num_labels, CALIBRATION_BINS)
        ),
        majority_share=float(occurrences.max() / len(sounds)),
        accuracy_shuffled=_accuracy(score_sounds(module, shuffled, max_samples), truth),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )
    return evaluation, scores


def score_sounds(module: Any, sounds: Sequence[CachedSound], max_samples: int) -> NDArray[np.float32]:
    """Softmax scores (len(sounds), K)."""
    with torch.inference_mode():
        batches = [
            module(waveform, lengths).softmax(dim=1).numpy()
            for waveform, lengths, _ in whole_loader(sounds, max_samples, BATCH_SIZE)
        ]
    return np.concatenate(batches)


def sound_results(evaluations: Mapping[str, SoundEvaluation], labels: Sequence[str]) -> str:
    """Tables of evaluations by the name of their set, Markdown: figures, then confusions."""
    rows = [
        [
            name,
            str(evaluation.num_sounds),
            percent(evaluation.accuracy),
            percent(evaluation.macro_recall),
            f"{evaluation.calibration_error:.3f}",
            percent(evaluation.majority_share),
            percent(evaluation.accuracy_shuffled),
        ]
        for name, evaluation in evaluations.items()
    ]
    heading = ["set", "sounds", "accuracy", "macro recall", "calibration error", "most frequent class"]
    figures = table([[*heading, "control: shuffled"], *rows])
    confusions = [_confusion(name, found, labels) for name, found in evaluations.items()]
    return "\n\n".join([figures, ABOUT_RESULTS, *confusions])


def _accuracy(scores: NDArray[np.float32], truth: torch.Tensor) -> float:
    return float((scores.argmax(axis=1) == truth.numpy()).mean())


def _shuffled(sound: CachedSound, index: int) -> CachedSound:
    pieces = np.array_split(sound.waveform, max(1, len(sound.waveform) // PIECE_SAMPLES))
    order = np.random.default_rng((SHUFFLE_SEED, index)).permutation(len(pieces))
    return CachedSound(sound.path, sound.label, sound.group, np.concatenate([pieces[place] for place in order]))


def _confusion(name: str, evaluation: SoundEvaluation, labels: Sequence[str]) -> str:
    rows = [[label, *map(str, row)] for label, row in zip(labels, evaluation.confusion, strict=True)]
    return table([[f"{name}: truth \\ answer", *labels], *rows])
