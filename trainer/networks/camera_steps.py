"""What a describer reads about each moment of a generated scene: the answer of `camera` and what it measured."""

from typing import Final

import torch
from torch import Tensor, nn

from trainer.data.scene_labels import LABELS


class CameraSteps(nn.Module):
    """A trained CameraClassifier's logits of scene_labels.LABELS, then its MeasuredSteps. Nothing here is trained.

    The classifier answers late, by its delay: the recurrence that reads this has to learn which step is meant.
    """

    num_told: Final[int] = len(LABELS)
    scale: Final[float] = 4.0
    largest: Final[float] = 3.0
    """Logits are divided by `scale` and then clipped to this: larger ones are no surer."""

    def __init__(self, camera: torch.jit.ScriptModule) -> None:
        """`camera`: compiled but not frozen. Its parts are called, so that each picture is measured only once."""
        super().__init__()
        self.camera = camera
        for parameter in camera.parameters():
            parameter.requires_grad_(False)
        self.num_measured: int = camera.measured.size
        self.size = self.num_told + self.num_measured

    def train(self, mode: bool = True) -> "CameraSteps":
        """Keeps the classifier in eval mode, as it is served."""
        super().train(mode)
        self.camera.eval()
        return self

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> steps (B,T,size); those beyond a length mean nothing."""
        state = self.camera.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
        pictures, flow, numbers = self.camera.measure(self.camera.light(frames), state)
        now = self.camera.unroll(self.camera.embed(pictures, flow, numbers), lengths, state)[0]
        told = (now / self.scale).clamp(-self.largest, self.largest)
        return torch.cat((told, numbers[:, :, : self.num_measured]), dim=2)
