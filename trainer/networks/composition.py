"""What a forecast frame of real video is made of, once the flow is known."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WarpedFrame(nn.Module):
    """Real video: of each pixel a share of the moved frame, of the frame as it was and of the moved one blurred.

    The last observed frame is warped once for every step of the forecast, so that blur does not add up. What it cannot
    tell, such as uncovered background, is a residual.
    """

    initial_maps: Final = (2.0, 0.0, -2.0, 0.0, 0.0, 0.0)
    """Of each kind: shares of the moved frame, the last one and the blurred one, residuals by colour."""
    residual_range: Final[float] = 0.25
    """Of a picture in [0,1]: a residual corrects, it cannot paint."""

    def forward(self, moved: Tensor, last: Tensor, maps: Tensor) -> Tensor:
        """moved and last frame (B,3,H,W), maps (B,6,H,W) -> frame (B,3,H,W) in [0,1]."""
        blurred = F.avg_pool2d(F.pad(moved, [1, 1, 1, 1], mode="replicate"), 3, 1)
        shares = maps[:, :3].softmax(dim=1)
        frame = shares[:, 0:1] * moved + shares[:, 1:2] * last + shares[:, 2:3] * blurred
        return (frame + self.residual_range * torch.tanh(maps[:, 3:])).clamp(0.0, 1.0)
