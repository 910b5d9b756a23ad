"""Flow between two pictures, computed by matching, with hardly any parameters."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.warping import enlarge, match_costs, smooth, warp


class ShiftVote(nn.Module):
    """The flow that fits matching costs best: (N,shifts,H,W) -> (N,2,H,W), in the pixels of the shifts.

    A softmax over shifts tells, to a fraction of a pixel, where each place came from. Where all shifts match equally
    well, the flow is zero.
    """

    shifts: Tensor

    def __init__(self, radius: int, sharpness: float = 10.0, bias: float = 0.05) -> None:
        super().__init__()
        across = torch.arange(-radius, radius + 1, dtype=torch.float32)
        y, x = torch.meshgrid(across, across, indexing="ij")
        self.register_buffer("shifts", torch.stack((x.flatten(), y.flatten())).reshape(2, -1, 1, 1))
        self.sharpness = nn.Parameter(torch.tensor(sharpness))
        self.bias = nn.Parameter(-bias * (x**2 + y**2).reshape(1, -1, 1, 1))

    def forward(self, costs: Tensor) -> Tensor:
        votes = (self.bias - self.sharpness * costs).softmax(dim=1)
        return torch.stack(((votes * self.shifts[0]).sum(1), (votes * self.shifts[1]).sum(1)), dim=1)


def place_costs(costs: Tensor, window: int, stride: int) -> Tensor:
    """Matching costs (N,shifts,H,W) of pixels -> those of windows, every `stride` pixels: 0 is the best, 1 the mean."""
    costs = F.avg_pool2d(costs, window, stride, (window - stride) // 2, count_include_pad=False)
    costs = costs - costs.amin(dim=1, keepdim=True)
    return costs / (costs.mean(dim=1, keepdim=True) + 0.01)


def slopes(maps: Tensor) -> Tensor:
    """(N,1,H,W) -> (N,2,H,W): its slopes to the right and downwards (Sobel), per pixel."""
    maps = F.pad(maps, [1, 1, 1, 1], mode="replicate")
    across, down = maps[:, :, :, 2:] - maps[:, :, :, :-2], maps[:, :, 2:] - maps[:, :, :-2]
    across = (across[:, :, :-2] + 2.0 * across[:, :, 1:-1] + across[:, :, 2:]) / 8.0
    down = (down[:, :, :, :-2] + 2.0 * down[:, :, :, 1:-1] + down[:, :, :, 2:]) / 8.0
    return torch.cat((across, down), dim=1)


def fit_slopes(
    now: Tensor, before: Tensor, flow: Tensor, window: int, stiffness: float = 1e-3, largest: float = 0.75
) -> Tensor:
    """The flow (N,2,H,W) between pictures (N,1,H,W), refined by least squares in windows (Lucas & Kanade 1981).

    The slopes of the pictures give the fractions of a pixel that votes over whole shifts leave open. `stiffness` is the
    squared slope below which they are not trusted; `largest` is how far, in pixels, they can move the flow.
    """
    moved = warp(before, flow)
    across, down = slopes((now + moved) / 2).chunk(2, dim=1)
    change = now - moved
    products = torch.cat((across * across, across * down, down * down, across * change, down * change), dim=1)
    # Smoothed twice, so that near pixels count more: the edges of the flow stay in place.
    xx, xy, yy, xt, yt = smooth(smooth(products, window), window).chunk(5, dim=1)
    xx, yy = xx + stiffness, yy + stiffness
    step = torch.cat((yy * xt - xy * yt, xx * yt - xy * xt), dim=1) / (xx * yy - xy * xy)
    return flow + step.clamp(-largest, largest)


class FlowPyramid(nn.Module):
    """The flow from one picture to the one before: (N,1,H,W) twice -> (N,2,H,W) in pixels.

    It matches windows from coarse to fine: each level warps the picture before by the flow so far and matches what is
    left. Least squares refine the result. Carried on for one frame on 66 clips, this flow gives 27.6 dB and an SSIM of
    0.937; without least squares 27.4 and 0.934, OpenCV's DIS flow 27.4 and 0.937, copying the last frame 27.0 and
    0.926.
    """

    window: Final[int] = 7
    """Pixels, of the fine matches."""

    def __init__(self) -> None:
        super().__init__()
        self.at_quarter = ShiftVote(4, 20.0, 0.1)
        self.at_half = ShiftVote(2, 20.0, 0.2)
        self.at_full = ShiftVote(1, 10.0, 0.2)
        self.again = ShiftVote(1, 10.0, 0.2)

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        small_now, small_before = F.avg_pool2d(now, 4), F.avg_pool2d(before, 4)
        flow = smooth(self.at_quarter(place_costs(match_costs(small_now, small_before, 4), 5, 1)), 3)
        flow = 2.0 * enlarge(flow, 2)
        small_now, small_before = F.avg_pool2d(now, 2), F.avg_pool2d(before, 2)
        flow = smooth(flow + self.at_half(place_costs(match_costs(small_now, warp(small_before, flow), 2), 5, 1)), 3)
        flow = smooth(fit_slopes(small_now, small_before, flow, 5), 3)
        flow = 2.0 * enlarge(flow, 2)
        flow = smooth(flow + self.at_full(place_costs(match_costs(now, warp(before, flow), 1), self.window, 1)), 5)
        flow = smooth(flow + self.again(place_costs(match_costs(now, warp(before, flow), 1), self.window, 1)), 5)
        return smooth(fit_slopes(now, before, flow, 5), 5)
