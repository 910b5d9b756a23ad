"""How things move: an encoder that watches frames, a decoder that goes on without them."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.composition import WarpedFrame
from trainer.networks.conv_recurrent import TwoScaleRecurrent
from trainer.networks.flow import ShiftVote, place_costs
from trainer.networks.luma import grey
from trainer.networks.recurrent import Cell
from trainer.networks.warping import enlarge, follow, match_costs, warp


class PictureFeatures(nn.Module):
    """What a picture shows, at a quarter of its size: (N,C,H,W) in [0,1] -> (N,num_features,H/4,W/4)."""

    def __init__(self, num_colours: int, num_features: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            nn.Conv2d(4 * num_colours, num_features // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(num_features // 2, num_features, 3, stride=2, padding=1),
            nn.ReLU(),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.convolve(F.pixel_unshuffle((pictures - 0.5) * 4.0, 2))
        return features


class MotionEncoder(nn.Module):
    """What a picture shows and how it moved since the one before: (N,C,H,W) twice -> (N,num_features,H/4,W/4).

    Matching is computed, not learnt, since a network would first have to learn to compare.
    """

    radius: Final[int] = 4
    """Of the shifts that are tried at half and at a quarter of the size: they reach 8 and 16 pixels."""

    def __init__(self, num_colours: int, num_features: int) -> None:
        super().__init__()
        self.features = PictureFeatures(num_colours, num_features)
        num_shifts = (2 * self.radius + 1) ** 2
        self.motion = nn.Sequential(nn.Conv2d(2 * num_shifts, num_features, 1), nn.ReLU())
        self.fine = ShiftVote(self.radius)
        self.coarse = ShiftVote(self.radius)
        self.num_features = 2 * num_features + 4

    def forward(self, pictures: Tensor, before: Tensor) -> Tensor:
        now, earlier = grey(pictures), grey(before)
        fine = place_costs(match_costs(F.avg_pool2d(now, 2), F.avg_pool2d(earlier, 2), self.radius), 8, 2)
        coarse = place_costs(match_costs(F.avg_pool2d(now, 4), F.avg_pool2d(earlier, 4), self.radius), 5, 1)
        motion = self.motion(torch.cat((fine, coarse), dim=1))
        return torch.cat((self.features(pictures), motion, 0.5 * self.fine(fine), self.coarse(coarse)), dim=1)


class MotionDecoder(nn.Module):
    """The frames to come of real video: the last one moved on, by what the encoder remembers and by those before."""

    num_traces: Final[int] = 2
    reach: Final[int] = 5
    """Width of the neighbourhood, in quarter pixels, that a place may take its velocity from."""

    def __init__(self, cell: Cell, num_colours: int, num_features: int, quarter_size: int, eighth_size: int) -> None:
        super().__init__()
        self.composition = WarpedFrame()
        self.features = PictureFeatures(num_colours, num_features)
        self.recurrent = TwoScaleRecurrent(cell, num_features + 2, quarter_size, eighth_size)
        self.persistence = nn.Parameter(torch.tensor(0.8))
        self.spread = nn.Conv2d(quarter_size, self.reach**2, 3, padding=1)
        self.accelerate = nn.Conv2d(quarter_size, 2, 3, padding=1)
        self.tell = nn.Conv2d(quarter_size, num_features, 1)
        self.refine = nn.Sequential(nn.Conv2d(8 * num_colours + num_features + 2, 32, 3, padding=1), nn.ReLU())
        self.adjust = nn.Conv2d(32, 2, 3, padding=1)
        initial_maps = torch.tensor(self.composition.initial_maps).repeat_interleave(4)
        self.paint = nn.Conv2d(32, len(initial_maps), 3, padding=1)
        for head in (
            self.spread,
            self.accelerate,
            self.adjust,
            self.paint,
        ):  # training starts from motion that continues
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.paint.bias.copy_(initial_maps)  # type: ignore[union-attr]
            self.spread.bias[self.reach**2 // 2] = 5.0  # type: ignore[index]

    def move(self, velocity: Tensor, hidden: Tensor) -> Tensor:
        """velocity (B,2,h,w), hidden (B,size,h,w) -> the next velocity at each place.

        It is the velocity of somewhere near, since what moves takes its velocity along, with a small change.
        """
        height, width = velocity.shape[2], velocity.shape[3]
        num_near, edge = self.reach * self.reach, self.reach // 2
        votes = self.spread(hidden).float().reshape(velocity.shape[0], 1, num_near, height, width)
        near = F.unfold(F.pad(velocity, [edge, edge, edge, edge], mode="replicate"), (self.reach, self.reach))
        near = near.reshape(velocity.shape[0], 2, num_near, height, width)
        change: Tensor = self.accelerate(hidden).float()
        moved: Tensor = (near * votes.softmax(dim=2)).sum(dim=2) + change
        return moved

    def forward(self, last: Tensor, flow: Tensor, quarter: Tensor, eighth: Tensor, horizon: int) -> Tensor:
        """last frame (B,C,H,W), the flow to it (B,2,H,W), the encoder's states -> frames (B,horizon,C,H,W)."""
        # At a quarter of the size, in pixels of that size: the flow of one step, and of all so far.
        velocity = F.avg_pool2d(flow, 4) / 4.0
        total = torch.zeros_like(velocity)
        detail = flow - 4.0 * enlarge(
            velocity, 4
        )  # what a quarter of the size cannot show; it fades as it gets less sure
        details = torch.zeros_like(detail)
        frame = last
        frames: list[Tensor] = []
        for _ in range(horizon):
            x = torch.cat((self.features(frame), velocity), dim=1)
            quarter, eighth = self.recurrent.step(x, quarter, eighth)
            hidden = self.recurrent.quarter.hidden(quarter)
            velocity = self.move(velocity, hidden)
            total = follow(velocity, total)
            details = self.persistence * details + detail
            flow = 4.0 * enlarge(total, 4) + details
            inputs = (
                F.pixel_unshuffle(torch.cat((warp(last, flow), last), dim=1), 2),
                enlarge(self.tell(hidden), 2),
                enlarge(total, 2),
            )
            refined = self.refine(torch.cat(inputs, dim=1))
            moved = warp(last, flow + enlarge(self.adjust(refined).float(), 2))
            frame = self.composition(moved, last, F.pixel_shuffle(self.paint(refined).float(), 2))
            frames.append(frame)
        return torch.stack(frames, dim=1)
