"""Clips to learn forecasting from: cut out of videos, or sequences of Moving MNIST, each drawn anew."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from trainer.data.moving_mnist import draw_sequence
from trainer.recipe.predict import Sampling


class VideoClips(Dataset[Tensor]):
    """Random clips (num_frames, crop, crop, 3) uint8; item `draw` depends on the seed and that number alone."""

    def __init__(self, videos: Sequence[NDArray[np.uint8]], num_frames: int, sampling: Sampling, seed: int) -> None:
        """`videos`: (N, H, W, 3) each, N at least `num_frames`, H and W at least the crop."""
        self.videos = videos
        self.num_frames = num_frames
        self.sampling = sampling
        self.seed = seed

    def __len__(self) -> int:
        return self.sampling.clips_per_epoch

    def __getitem__(self, draw: int) -> Tensor:
        generator = np.random.default_rng((self.seed, draw))
        sampling, side = self.sampling, self.sampling.crop
        video = self.videos[int(generator.integers(len(self.videos)))]
        start = int(generator.integers(len(video) - self.num_frames + 1))
        frames = torch.from_numpy(video[start : start + self.num_frames])
        if generator.random() < sampling.shrink_share:
            frames = _shrink(frames, side)
        top, left = (int(generator.integers(size - side + 1)) for size in frames.shape[1:3])
        frames = frames[:, top : top + side, left : left + side]
        if generator.random() < sampling.flip:
            frames = frames.flip(2)
        if generator.random() < sampling.reverse:
            frames = frames.flip(0)
        return frames.contiguous()


class MovingDigits(Dataset[Tensor]):
    """Sequences (num_frames, 64, 64, 3) uint8, grey; item `draw` depends on the seed and that number alone."""

    def __init__(self, digits: NDArray[np.uint8], num_frames: int, count: int, seed: int) -> None:
        self.digits = digits
        self.num_frames = num_frames
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, draw: int) -> Tensor:
        sequence = draw_sequence(self.digits, self.num_frames, np.random.default_rng((self.seed, draw)))
        return torch.from_numpy(sequence).unsqueeze(3).repeat(1, 1, 1, 3)


class MiddleClips(Dataset[Tensor]):
    """The middle `num_frames` frames of each video, whole: (num_frames, H, W, 3) uint8."""

    def __init__(self, videos: Sequence[NDArray[np.uint8]], num_frames: int) -> None:
        self.videos = videos
        self.num_frames = num_frames

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Tensor:
        video = self.videos[index]
        start = (len(video) - self.num_frames) // 2
        return torch.from_numpy(video[start : start + self.num_frames])


def _shrink(frames: Tensor, side: int) -> Tensor:
    """(T,H,W,3) uint8 -> the same, the shorter side `side` pixels."""
    height, width = frames.shape[1:3]
    scale = side / min(height, width)
    size = [max(side, round(height * scale)), max(side, round(width * scale))]
    pictures = F.interpolate(frames.permute(0, 3, 1, 2).float(), size, mode="bilinear", antialias=True)
    return pictures.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
