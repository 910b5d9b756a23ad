"""What a forecast frame is made of, once the flow is known: the last frame, or layers it is taken apart to."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WarpedFrame(nn.Module):
    """Real video: of each pixel a share of the moved frame, of the frame as it was and of the moved one blurred.

    The last observed frame is warped once for every step of the forecast, so that blur does not add up. What it cannot
    tell, such as uncovered background, is a residual.
    """

    num_layers: Final[int] = 1
    initial_maps: Final = (2.0, 0.0, -2.0, 0.0, 0.0, 0.0)
    """Of each kind: shares of the moved frame, the last one and the blurred one, residuals by colour."""
    residual_range: Final[float] = 0.25
    """Of a picture in [0,1]: a residual corrects, it cannot paint."""

    def canvases(self, last: Tensor, hidden: Tensor) -> Tensor:
        """last frame (B,3,H,W), hidden (B,size,H/4,W/4) -> what will be moved (B,3,H,W)."""
        return last

    def forward(self, moved: Tensor, last: Tensor, maps: Tensor) -> Tensor:
        """moved canvas, last frame (B,3,H,W), maps (B,6,H,W) -> frame (B,3,H,W) in [0,1]."""
        blurred = F.avg_pool2d(F.pad(moved, [1, 1, 1, 1], mode="replicate"), 3, 1)
        shares = maps[:, :3].softmax(dim=1)
        frame = shares[:, 0:1] * moved + shares[:, 1:2] * last + shares[:, 2:3] * blurred
        return (frame + self.residual_range * torch.tanh(maps[:, 3:])).clamp(0.0, 1.0)


class LayeredFrame(nn.Module):
    """Bright things on black: layers that move apart, one over another, with what hides behind another filled in."""

    num_layers: Final[int] = 4
    initial_maps: Final = (-4.0, -4.0)
    """How much is dimmed, how much lit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.take_apart = nn.Sequential(
            nn.Conv2d(size, size, 3, padding=1), nn.ReLU(), nn.Conv2d(size, 2 * 16 * self.num_layers, 3, padding=1)
        )

    def canvases(self, last: Tensor, hidden: Tensor) -> Tensor:
        """last frame (B,1,H,W), hidden (B,size,H/4,W/4) -> the layers (B*num_layers,1,H,W) in [0,1]."""
        maps = F.pixel_shuffle(self.take_apart(hidden).float(), 4)  # (B,2*num_layers,H,W)
        kept, filled = torch.sigmoid(maps[:, : self.num_layers]), torch.sigmoid(maps[:, self.num_layers :] - 5.0)
        layers = last * kept + (1.0 - last) * filled
        return layers.flatten(0, 1).unsqueeze(1)

    def forward(self, moved: Tensor, last: Tensor, maps: Tensor) -> Tensor:
        """moved layers (B*num_layers,1,H,W), last frame (B,1,H,W), maps (B,2,H,W) -> frame (B,1,H,W) in [0,1]."""
        layers = moved.reshape(last.shape[0], self.num_layers, last.shape[2], last.shape[3])
        frame = 1.0 - (1.0 - layers).prod(dim=1, keepdim=True)
        dimmed, lit = torch.sigmoid(maps[:, 0:1]), torch.sigmoid(maps[:, 1:2])
        return frame * (1.0 - dimmed) + (1.0 - frame) * lit
