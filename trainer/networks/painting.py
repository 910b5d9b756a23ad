"""Bright things on black: an encoder of pairs of pictures, and a decoder that paints the next frames from memory."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.conv_recurrent import TwoScaleRecurrent
from trainer.networks.recurrent import Cell


class PairFeatures(nn.Module):
    """What a picture and the one before it show, and where: (N,C,H,W) twice -> (N,num_features,H/4,W/4).

    Each place sees its 4x4 pixels as channels (space to depth), since a recurrence over single pixels takes 16 times as
    long. It also sees where in the picture it is: to bounce off an edge, a thing must know how far away that is.
    """

    patch: Final[int] = 4

    def __init__(self, num_colours: int, num_features: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(2 * num_colours * self.patch**2 + 2, num_features, 3, padding=1)
        self.num_features = num_features

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        pair = F.pixel_unshuffle(torch.cat((now, before), dim=1), self.patch)
        height, width = pair.shape[2], pair.shape[3]
        down = torch.linspace(-1.0, 1.0, height, device=pair.device).reshape(1, 1, -1, 1)
        across = torch.linspace(-1.0, 1.0, width, device=pair.device).reshape(1, 1, 1, -1)
        places = (down.expand(len(pair), 1, height, width), across.expand(len(pair), 1, height, width))
        return torch.relu(self.convolve(torch.cat((pair, *places), dim=1)))


class PictureBefore(nn.Module):
    """Gives the earlier of two pictures (N,1,H,W) in place of the flow between them: painting needs no matching."""

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        return before


class PaintingDecoder(nn.Module):
    """The frames to come, each painted on black from what is remembered and from the two frames before it."""

    num_traces: Final[int] = 1
    black: Final[float] = -3.0
    """Bias of the paint before its sigmoid: training starts from dark pictures, as most of each picture is dark."""

    def __init__(self, cell: Cell, num_colours: int, num_features: int, quarter_size: int, eighth_size: int) -> None:
        super().__init__()
        self.features = PairFeatures(num_colours, num_features)
        self.recurrent = TwoScaleRecurrent(cell, num_features, quarter_size, eighth_size, residual=True)
        self.paint = nn.Sequential(
            nn.Conv2d(2 * num_features, num_features, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(num_features, num_colours * self.features.patch**2, 3, padding=1),
        )
        nn.init.constant_(self.paint[-1].bias, self.black)  # type: ignore[arg-type]

    def forward(self, last: Tensor, before: Tensor, quarter: Tensor, eighth: Tensor, horizon: int) -> Tensor:
        """last frame, the one before (B,C,H,W), the encoder's states -> frames (B,horizon,C,H,W) in [0,1]."""
        observed = self.features(last, before)
        x = observed
        frames: list[Tensor] = []
        for _ in range(horizon):
            quarter, eighth = self.recurrent.step(x, quarter, eighth)
            known = self.recurrent.hear(x, eighth) + self.recurrent.quarter.hidden(quarter)
            paint = self.paint(torch.cat((known, observed), dim=1))
            before, last = last, torch.sigmoid(F.pixel_shuffle(paint.float(), self.features.patch))
            frames.append(last)
            x = self.features(last, before)
        return torch.stack(frames, dim=1)
