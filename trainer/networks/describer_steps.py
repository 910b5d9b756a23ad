"""What a describer reads of each moment: what the camera classifier says of it, or what a frame looks like."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.camera_classifier import CameraClassifier
from trainer.networks.frame_encoder import FrameEncoder, SequenceEmbedding
from trainer.networks.measured_steps import MeasuredSteps


class CameraSteps(nn.Module):
    """What a trained camera classifier says, which stays as it is, and what can be measured without one."""

    largest_logit: Final[float] = 8.0
    """Beyond, it is as sure as can be."""
    logit_scale: Final[float] = 0.25

    def __init__(self, camera: CameraClassifier, rate: float, delay_steps: int) -> None:
        """`rate`: steps per second. `delay_steps`: between a moment and what the classifier says of it."""
        super().__init__()
        self.camera = camera.requires_grad_(False)
        self.measured = MeasuredSteps(camera.width, camera.height, rate, camera.lag)
        self.delay_steps = delay_steps
        self.num_labels = camera.num_labels
        self.size = camera.num_labels + self.measured.size

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> steps (B,T,size): logits, then what is measured."""
        state = self.camera.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
        (now, _), _ = self.camera.step(frames, lengths, state)
        steps = torch.arange(frames.shape[1], device=frames.device) + self.delay_steps
        # Of the last moments there is no answer yet: they are as the one before.
        said_at = torch.minimum(steps.unsqueeze(0), (lengths.unsqueeze(1) - 1).clamp(min=0))  # (B,T)
        logits = now.gather(1, said_at.unsqueeze(2).expand(-1, -1, now.shape[2]))
        logits = logits.clamp(-self.largest_logit, self.largest_logit) * self.logit_scale
        return torch.cat((logits, self.measured(self.camera.light(frames))), dim=2)


class FrameSteps(nn.Module):
    """Each frame on its own, learnt with the rest: for videos that people have described."""

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
