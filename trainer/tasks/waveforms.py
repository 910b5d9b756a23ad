"""Batches of sounds of different lengths."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from trainer.data.sounds import CachedSound
from trainer.networks.log_mel import SAMPLE_RATE
from trainer.tasks.clips import DrawSampler

Sound = tuple[NDArray[np.float32], int]
"""waveform (N,), label."""
Batch = tuple[Tensor, Tensor, Tensor]
"""waveform (B,N) float32, lengths (B,) int64 samples, labels (B,) int64."""
Part = tuple[NDArray[np.float32], int, int]
"""waveform (N,), label, place of the sound that it is a part of."""
PartsBatch = tuple[Tensor, Tensor, Tensor, Tensor]
"""waveform (P,N) float32, lengths (P,) int64 samples, labels (P,) int64, places (P,) int64."""
SHORTEST_PART = SAMPLE_RATE // 2
"""Samples. A rest after the last whole part counts if it is at least this long, as in the service."""


class TrainingSounds(Dataset[Sound]):
    """Sounds, or parts of them: item `epoch * len(sounds) + index` is that epoch's part of the sound at `index`.

    What is drawn depends on the seed and that number alone, whatever process draws it.
    """

    def __init__(self, sounds: Sequence[CachedSound], max_samples: int, seed: int) -> None:
        self.sounds = sounds
        self.max_samples = max_samples
        self.seed = seed

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, draw: int) -> Sound:
        sound = self.sounds[draw % len(self.sounds)]
        spare = max(0, len(sound.waveform) - self.max_samples)
        start = int(np.random.default_rng((self.seed, draw)).integers(spare + 1))
        return sound.waveform[start : start + self.max_samples], sound.label


class WholeSounds(Dataset[Sound]):
    """Each sound unchanged, from its beginning, up to the length that the model hears at once."""

    def __init__(self, sounds: Sequence[CachedSound], max_samples: int) -> None:
        self.sounds = sounds
        self.max_samples = max_samples

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, index: int) -> Sound:
        sound = self.sounds[index]
        return sound.waveform[: self.max_samples], sound.label


class SoundParts(Dataset[Part]):
    """Sounds as the service gives them to the model: all parts of each, in order."""

    def __init__(self, sounds: Sequence[CachedSound], max_samples: int) -> None:
        self.sounds = sounds
        self.max_samples = max_samples
        self.parts = [
            (place, start)
            for place, sound in enumerate(sounds)
            for start in range(0, max(1, len(sound.waveform)), max_samples)
            if start == 0 or min(len(sound.waveform) - start, max_samples) >= SHORTEST_PART
        ]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Part:
        place, start = self.parts[index]
        sound = self.sounds[place]
        return sound.waveform[start : start + self.max_samples], sound.label, place


def mean_logits(logits: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
    """Logits (P,K) and lengths (P,) of parts -> (B,K) of the sounds at `places` (P,): means weighted by length."""
    weights = lengths.double().unsqueeze(1)
    sums = torch.zeros(int(places.max()) + 1, logits.shape[1] + 1, dtype=torch.float64, device=logits.device)
    sums.index_add_(0, places, torch.cat((logits * weights, weights), dim=1))
    return (sums[:, :-1] / sums[:, -1:]).float()


def collate(sounds: Sequence[Sound]) -> Batch:
    """The sounds as one batch, padded with silence to the longest."""
    lengths = torch.tensor([len(waveform) for waveform, _ in sounds])
    waveforms = torch.zeros(len(sounds), int(lengths.max()))
    for row, (waveform, _) in enumerate(sounds):
        waveforms[row, : len(waveform)] = torch.from_numpy(waveform)
    return waveforms, lengths, torch.tensor([label for _, label in sounds])


def collate_parts(parts: Sequence[Part]) -> PartsBatch:
    """As `collate`, with the places of the sounds."""
    return *collate([(waveform, label) for waveform, label, _ in parts]), torch.tensor([place for *_, place in parts])


class AlikeBatches(Sampler[list[int]]):
    """Batches of sounds of similar lengths; in mixed batches two thirds of the steps were padding.

    Lightning calls `sampler.set_epoch`. As with the sampler, an epoch's batches depend on its number alone.
    """

    pool: Final = 16
    """How many batches are sorted by length together, and then shuffled."""

    def __init__(self, sampler: DrawSampler, lengths: Sequence[int], batch_size: int) -> None:
        self.sampler = sampler
        self.lengths = lengths
        self.batch_size = batch_size

    def __len__(self) -> int:
        return max(1, len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        # The rest that fills no batch is dropped before sorting: after it, the rest would always be the longest sounds.
        draws, size = list(self.sampler)[: len(self) * self.batch_size], self.pool * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(draws), size):
            ordered = sorted(draws[start : start + size], key=lambda draw: self.lengths[draw % len(self.lengths)])
            batches += [ordered[place : place + self.batch_size] for place in range(0, len(ordered), self.batch_size)]
        order = np.random.default_rng(draws[0]).permutation(len(batches))
        return iter([batches[place] for place in order])


def training_loader(sounds: Sequence[CachedSound], max_samples: int, batch_size: int, seed: int) -> DataLoader[Sound]:
    """Each sound once per epoch, in random order, in batches of similar lengths."""
    lengths = [min(max_samples, len(sound.waveform)) for sound in sounds]
    return DataLoader[Sound](
        TrainingSounds(sounds, max_samples, seed),
        batch_sampler=AlikeBatches(DrawSampler(len(sounds), seed), lengths, batch_size),
        collate_fn=collate,
    )


def whole_loader(sounds: Sequence[CachedSound], max_samples: int, batch_size: int) -> DataLoader[Sound]:
    """Each sound once, in order."""
    return DataLoader[Sound](WholeSounds(sounds, max_samples), batch_size=batch_size, collate_fn=collate)


def parts_loader(sounds: Sequence[CachedSound], max_samples: int, batch_size: int) -> DataLoader[Part]:
    """Each part of each sound once, in order."""
    return DataLoader[Part](SoundParts(sounds, max_samples), batch_size=batch_size, collate_fn=collate_parts)
