"""How good a scripted classifier of sound is on sounds decoded as the service decodes them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.sounds import CachedSound
from trainer.metrics import BATCH_SIZE, SHUFFLE_SEED, Evaluation, judge
from trainer.tasks.waveforms import mean_logits, parts_loader

PIECE_SAMPLES = 1_600  # 0.1 s
ABOUT_SOUNDS = (
    "Measured on the published file. Macro recall is the mean of the classes' recalls, also called unweighted average "
    "recall. Shuffled: the sound in pieces of 0.1 s in a random order."
)


def measure_sounds(
    module: Any, sounds: Sequence[CachedSound], max_samples: int
) -> tuple[Evaluation, NDArray[np.float32]]:
    """The evaluation of a scripted classifier, and its scores (len(sounds), K).

    Raises ValueError without sounds.
    """
    if not sounds:
        raise ValueError("no sounds to evaluate on")
    scores = score_sounds(module, sounds, max_samples)
    shuffled = [_shuffled(sound, index) for index, sound in enumerate(sounds)]
    return judge(sounds, scores, {"shuffled": score_sounds(module, shuffled, max_samples)}), scores


def score_sounds(module: Any, sounds: Sequence[CachedSound], max_samples: int) -> NDArray[np.float32]:
    """Softmax scores (len(sounds), K), of sounds longer than `max_samples` from the mean logits of their parts."""
    with torch.inference_mode():
        heard = [
            (module(waveform, lengths), lengths, places)
            for waveform, lengths, _, places in parts_loader(sounds, max_samples, BATCH_SIZE)
        ]
        scores: NDArray[np.float32] = mean_logits(*map(torch.cat, zip(*heard, strict=True))).softmax(dim=1).numpy()
    return scores


def _shuffled(sound: CachedSound, index: int) -> CachedSound:
    pieces = np.array_split(sound.waveform, max(1, len(sound.waveform) // PIECE_SAMPLES))
    order = np.random.default_rng((SHUFFLE_SEED, index)).permutation(len(pieces))
    return CachedSound(sound.path, sound.label, sound.group, np.concatenate([pieces[place] for place in order]))
