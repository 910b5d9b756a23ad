"""Training clips cut from cached videos: spread over a video or its key frames, at a fixed rate, or two spliced."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from app.media.sampling import spread
from trainer.data.cache import CachedVideo
from trainer.recipe.classify import ClassifyRecipe

Clip = tuple[Tensor, Tensor, int]
"""frames (T,H,W,3) uint8, labels by step (T,) int64, length: how many of the T steps are valid."""


class DrawSampler(Sampler[int]):
    """Gives each video once per epoch, in random order, as the number of a draw: epoch * num_videos + index.

    Lightning calls `set_epoch`. A draw depends on its number alone, so a resumed run draws the same as one that went
    through.
    """

    def __init__(self, num_videos: int, seed: int) -> None:
        self.num_videos = num_videos
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other clips from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_videos

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_videos)
        return iter((self.epoch * self.num_videos + order).tolist())


class TrainingClips(Dataset[Clip]):
    """Random clips: item `epoch * len(videos) + index` is that epoch's clip of the video at `index`.

    What is drawn depends on the seed and that number alone, whatever process draws it.
    """

    def __init__(self, videos: Sequence[CachedVideo], recipe: ClassifyRecipe, seed: int) -> None:
        self.videos = videos
        self.sampling = recipe.sampling
        self.rate = recipe.input.rate
        self.cache_rate = recipe.cache.rate
        self.seed = seed

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, draw: int) -> Clip:
        generator = np.random.default_rng((self.seed, draw))
        video, sampling = self.videos[draw % len(self.videos)], self.sampling
        length = sampling.clip_length
        kind = generator.random()
        if kind < sampling.splice_share:
            other = self.videos[int(generator.integers(len(self.videos)))]
            cut = int(generator.integers(1, length))
            parts = ((video, cut), (other, length - cut))
            frames = np.concatenate([part.frames[self._at_rate(part, n, generator)] for part, n in parts])
            labels = np.repeat([video.label, other.label], [cut, length - cut])
        else:
            kind -= sampling.splice_share
            if kind < sampling.rate_share:
                chosen = self._at_rate(video, length, generator)
            elif kind < sampling.rate_share + sampling.key_share:
                chosen = _spread_over_keys(video, length, generator)
            else:
                chosen = _spread(video, length, generator)
            frames = video.frames[chosen]
            labels = np.full(length, video.label)
        return torch.from_numpy(frames), torch.from_numpy(labels.astype(np.int64)), length

    def _at_rate(self, video: CachedVideo, length: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """`length` places among the video's frames, 1/rate seconds apart; if it is too short, the last repeats."""
        rate = self.rate * self.sampling.rate_jitter ** generator.uniform(-1.0, 1.0)
        spacing = self.cache_rate / rate  # cached frames per step
        last = len(video.frames) - 1
        start = generator.uniform(0.0, max(0.0, last - spacing * (length - 1)))
        places: NDArray[np.float64] = np.rint(start + spacing * np.arange(length))
        return np.minimum(places, last).astype(np.int64)


class ServedClips(Dataset[Clip]):
    """Each video's clip exactly as the service samples it."""

    def __init__(self, videos: Sequence[CachedVideo]) -> None:
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Clip:
        video = self.videos[index]
        length = len(video.clip)
        return torch.from_numpy(video.clip), torch.full((length,), video.label), length


def _spread(video: CachedVideo, length: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`length` places among the video's frames, one in each of `length` equal parts of it (Wang et al. 2016)."""
    places = (np.arange(length) + generator.random(length)) * len(video.frames) / length
    return np.floor(places).astype(np.int64)


def _spread_over_keys(video: CachedVideo, length: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """`length` places spread over the video as the service spreads them over key frames, here a random number of them.

    At least half of `length`, as the service wants, and at regular distances; the first is anywhere in the first gap.
    """
    num_frames = len(video.frames)
    num_keys = int(generator.integers((length + 1) // 2, length, endpoint=True))
    keys = np.floor((np.arange(num_keys) + generator.random()) * num_frames / num_keys).astype(np.int64)
    return keys[spread(0, num_frames - 1, length, keys)]
