"""What a describer reads of each moment of a generated scene: what `camera` says of it, and what is measured."""

from typing import Final

import torch
from torch import Tensor, nn

from trainer.data.scene_labels import LABELS


class CameraSteps(nn.Module):
    """Logits of scene_labels.LABELS by a trained CameraClassifier, then what its MeasuredSteps tells: nothing learns.

    The classifier answers late, by its delay: which step it speaks of is for the recurrence that reads this to know.
    """

    num_told: Final[int] = len(LABELS)
    scale: Final[float] = 4.0
    largest: Final[float] = 3.0
    """Logits are divided by `scale`, and cut off here: beyond, all are as sure."""

    def __init__(self, camera: torch.jit.ScriptModule) -> None:
        """`camera`: compiled but not frozen, for its parts are called: each picture is measured once for both."""
        super().__init__()
        self.camera = camera
        for parameter in camera.parameters():
            parameter.requires_grad_(False)
        self.num_measured: int = camera.measured.size
        self.size = self.num_told + self.num_measured

    def train(self, mode: bool = True) -> "CameraSteps":
        """Leaves the classifier as it is served."""
        super().train(mode)
        self.camera.eval()
        return self

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """frames (B,T,H,W,3) uint8, lengths (B,) -> steps (B,T,size); what is beyond a length says nothing."""
        state = self.camera.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
        pictures, flow, numbers = self.camera.measure(self.camera.light(frames), state)
        now = self.camera.unroll(self.camera.embed(pictures, flow, numbers), lengths, state)[0]
        told = (now / self.scale).clamp(-self.largest, self.largest)
        return torch.cat((told, numbers[:, :, : self.num_measured]), dim=2)
