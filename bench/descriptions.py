"""Ways to describe a whole sound by one vector."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct

from trainer.data.sounds import CachedSound
from trainer.networks.log_mel import SAMPLE_RATE, LogMel
from trainer.tasks.waveforms import whole_loader

Waveform = NDArray[np.float32]
"""(N,) at 16 kHz."""

NUM_MFCC = 20
BATCH_SIZE = 32


def log_mel_of(waveform: Waveform) -> NDArray[np.float32]:
    """(T, 64)"""
    found: NDArray[np.float32] = (
        LogMel().whole(torch.tensor(waveform[None]), torch.tensor([len(waveform)]))[0][0].numpy()
    )
    return found


def mean_and_deviation(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, D) -> (2 D,)"""
    return np.concatenate((values.mean(axis=0), values.std(axis=0)))


def mfcc(waveform: Waveform) -> NDArray[np.float32]:
    """Mean and deviation of 20 MFCC, of their first and of their second differences."""
    coefficients = dct(log_mel_of(waveform), axis=1, norm="ortho")[:, :NUM_MFCC]
    first = np.gradient(coefficients, axis=0) if len(coefficients) > 1 else np.zeros_like(coefficients)
    second = np.gradient(first, axis=0) if len(coefficients) > 1 else first
    return mean_and_deviation(np.concatenate((coefficients, first, second), axis=1))


@cache
def _smile(feature_set: str) -> Any:
    import opensmile  # only on request: its licence is for research

    return opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)


def smile(waveform: Waveform, feature_set: str) -> NDArray[np.float32]:
    """The functionals of one of openSMILE's feature sets."""
    found: NDArray[np.float32] = _smile(feature_set).process_signal(waveform, SAMPLE_RATE).to_numpy()[0]
    return found


DESCRIBERS: dict[str, Callable[[Waveform], NDArray[np.float32]]] = {
    "log-mel": lambda waveform: mean_and_deviation(log_mel_of(waveform)),
    "MFCC": mfcc,
    "openSMILE eGeMAPSv02": lambda waveform: smile(waveform, "eGeMAPSv02"),
    "openSMILE ComParE": lambda waveform: smile(waveform, "ComParE_2016"),
}


def describe(module: Any, sounds: Sequence[CachedSound]) -> NDArray[np.float32]:
    """The clip vectors (len(sounds), D) of a describer of sound, in the order of `sounds`."""
    longest = max(len(sound.waveform) for sound in sounds)
    order = sorted(range(len(sounds)), key=lambda index: len(sounds[index].waveform))  # so that little is padding
    with torch.inference_mode():
        batches = [
            module(waveform, lengths)[0].numpy()
            for waveform, lengths, _ in whole_loader([sounds[index] for index in order], longest, BATCH_SIZE)
        ]
    vectors = np.concatenate(batches)
    found: NDArray[np.float32] = np.empty_like(vectors)
    found[order] = vectors
    return found
