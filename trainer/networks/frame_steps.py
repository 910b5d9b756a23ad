"""What a describer reads about each moment of videos that people have described: how the frame looks."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.frame_encoder import FrameEncoder, SequenceEmbedding


class FrameSteps(nn.Module):
    """Embeds each frame on its own; trained together with the rest."""

    max_pixel: Final[float] = 255.0

    def __init__(self, num_channels: Sequence[int], blocks_per_stage: int, size: int, dropout: float) -> None:
        super().__init__()
        self.encoder = FrameEncoder(3, num_channels, blocks_per_stage, maximum=False)
        self.embedding = SequenceEmbedding(self.encoder.num_features, size, dropout)
        self.size = size

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> steps (B,T,size)."""
        pictures = frames.flatten(0, 1).permute(0, 3, 1, 2).to(torch.float32) / self.max_pixel - 0.5
        features = self.encoder(pictures).reshape(frames.shape[0], frames.shape[1], -1)
        embedded: Tensor = self.embedding(features)
        return embedded
