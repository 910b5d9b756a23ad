"""What a forecast frame of real video is made of, once the flow is known."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WarpedFrame(nn.Module):
    """A frame of real video: each pixel mixes the moved frame, the last frame as it was, and the moved one blurred.

    For every step of the forecast the last observed frame is warped once, so that blur does not add up. A residual adds
    what that frame does not show, such as uncovered background.
    """

    initial_maps: Final = (2.0, 0.0, -2.0, 0.0, 0.0, 0.0)
    """Initial values: logits of the shares of the moved, the last and the blurred frame, then a residual per colour."""
    residual_range: Final[float] = 0.25
    """Largest residual, for pictures in [0,1]: it can correct, but not paint."""

    def forward(self, moved: Tensor, last: Tensor, maps: Tensor) -> Tensor:
        """moved and last frame (B,3,H,W), maps (B,6,H,W) -> frame (B,3,H,W) in [0,1]."""
        blurred = F.avg_pool2d(F.pad(moved, [1, 1, 1, 1], mode="replicate"), 3, 1)
        shares = maps[:, :3].softmax(dim=1)
        frame = shares[:, 0:1] * moved + shares[:, 1:2] * last + shares[:, 2:3] * blurred
        return (frame + self.residual_range * torch.tanh(maps[:, 3:])).clamp(0.0, 1.0)
