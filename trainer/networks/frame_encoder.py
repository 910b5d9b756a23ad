"""What one frame looks like: a convolutional network that sees no other frame."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ConvNorm(nn.Sequential):
    """Convolution, BatchNorm, ReLU: (N,C,H,W) -> (N,num_channels,ceil(H/stride),ceil(W/stride)).

    When served it normalises by constants, so that a frame's features depend on no other frame. In training it uses
    the batch's statistics, which takes a third of the epochs: docs/decisions/0008.
    """

    def __init__(self, in_channels: int, num_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, num_channels, kernel_size, stride, kernel_size // 2, bias=False),
            nn.BatchNorm2d(num_channels),
            nn.ReLU(inplace=True),
        )


class ResidualConv(nn.Module):
    """`x` plus what one 3x3 convolution makes of it: (N,C,H,W) -> (N,C,H,W)."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.conv = ConvNorm(num_channels, num_channels, kernel_size=3, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv(x)
        return x + change


class FrameEncoder(nn.Module):
    """One vector per frame: (N,in_channels,H,W) float -> (N,num_features).

    Every stage halves the picture. The mean over the last stage tells what there is; with `maximum`, the maximum shows
    small things too.
    """

    def __init__(self, in_channels: int, num_channels: Sequence[int], blocks_per_stage: int, maximum: bool) -> None:
        super().__init__()
        stages: list[nn.Module] = [ConvNorm(in_channels, num_channels[0], kernel_size=5, stride=2)]
        for previous, width in itertools.pairwise(num_channels):
            stages.append(ConvNorm(previous, width, kernel_size=3, stride=2))
            stages.extend(ResidualConv(width) for _ in range(blocks_per_stage))
        self.stages = nn.Sequential(*stages)
        self.maximum = maximum
        self.num_features = num_channels[-1] * (2 if maximum else 1)

    def forward(self, pictures: Tensor) -> Tensor:
        maps: Tensor = self.stages(pictures)  # (N,C,h,w)
        means = maps.mean(dim=(2, 3))
        return torch.cat((means, maps.amax(dim=(2, 3))), dim=1) if self.maximum else means


class SequenceEmbedding(nn.Module):
    """Projects each vector, on its own, to the recurrence's input size: (B,T,num_features) -> (B,T,size)."""

    def __init__(self, num_features: int, size: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Dropout(dropout), nn.Linear(num_features, size), nn.LayerNorm(size), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        embedded: Tensor = self.project(features)
        return embedded
