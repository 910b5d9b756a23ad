"""How a picture moves from one frame to another: measured, not learnt, so that it works on pictures never seen."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LucasKanade(nn.Module):
    """Flow on a grid of cells by least squares (Lucas & Kanade 1981), at several scales, each on its own.

    A scale (level) sees motions of up to about one of its own pixels. Together they reach from 1/20 pixel to 1/16 of
    the width.
    """

    num_channels: Final[int] = 3
    """Per level: flow to the right and downwards, in pixels of that level, and how much evidence the cell has."""
    regularisation: Final[float] = 2e-5
    """Added to squared slopes of pictures in [0, 1]. Sensor noise of 2 grey levels alone has 3e-5."""
    largest: Final[float] = 2.0

    def __init__(self, height: int, width: int, num_levels: int, rows: int, columns: int) -> None:
        super().__init__()
        if height % (rows << (num_levels - 1)) or width % (columns << (num_levels - 1)):
            raise ValueError(f"{columns}x{rows} cells do not divide {width}x{height} at {num_levels} levels")
        self.num_levels = num_levels
        self.cells = (rows, columns)

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        """before, now (N, 1, H, W) in [0, 1] -> (N, 3 * num_levels, rows, columns)."""
        levels: list[Tensor] = []
        for level in range(self.num_levels):
            if level:
                before, now = F.avg_pool2d(before, 2), F.avg_pool2d(now, 2)
            levels.append(self.level(before, now))
        return torch.cat(levels, dim=1)

    def level(self, before: Tensor, now: Tensor) -> Tensor:
        """before, now (N, 1, H, W) -> (N, 3, rows, columns)."""
        middle = F.pad((before + now) / 2, [1, 1, 1, 1], mode="replicate")
        across = (middle[:, :, 1:-1, 2:] - middle[:, :, 1:-1, :-2]) / 2
        down = (middle[:, :, 2:, 1:-1] - middle[:, :, :-2, 1:-1]) / 2
        change = now - before
        products = torch.cat(
            (across * across, across * down, down * down, across * change, down * change), dim=1
        )  # (N, 5, H, W)
        xx, xy, yy, xt, yt = F.adaptive_avg_pool2d(products, self.cells).chunk(5, dim=1)
        xx, yy = xx + self.regularisation, yy + self.regularisation
        determinant = xx * yy - xy * xy
        to_right = (xy * yt - yy * xt) / determinant
        downwards = (xy * xt - xx * yt) / determinant
        telling = torch.log(determinant / (xx + yy)) - torch.log(torch.full_like(xx, self.regularisation))
        flow = torch.cat((to_right, downwards), dim=1).clamp(-self.largest, self.largest)
        return torch.cat((flow, telling / 4), dim=1)
