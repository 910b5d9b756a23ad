"""Warps pictures along a flow, and tells how well they match when shifted."""

import torch
import torch.nn.functional as F
from torch import Tensor

# A flow (B,2,H,W) gives for every pixel of the result the offset of where it came from: x, then y, in pixels.


def warp(maps: Tensor, flow: Tensor) -> Tensor:
    """maps (B,C,H,W), flow (B,2,H,W) -> (B,C,H,W): each pixel fetched from where the flow says; the border repeats."""
    height, width = maps.shape[2], maps.shape[3]
    x = torch.arange(width, device=maps.device, dtype=torch.float32)
    y = torch.arange(height, device=maps.device, dtype=torch.float32).unsqueeze(1)
    grid_x = (x + flow[:, 0] + 0.5) * (2.0 / width) - 1.0
    grid_y = (y + flow[:, 1] + 0.5) * (2.0 / height) - 1.0
    grid = torch.stack((grid_x, grid_y), dim=3)  # (B,H,W,2)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def follow(flow: Tensor, earlier: Tensor) -> Tensor:
    """Both flows (B,2,H,W) chained into one: where the place that `flow` points to came from."""
    return flow + warp(earlier, flow)


def enlarge(maps: Tensor, factor: int) -> Tensor:
    """(B,C,H,W) -> (B,C,factor*H,factor*W), bilinear."""
    size = [factor * maps.shape[2], factor * maps.shape[3]]
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def smooth(maps: Tensor, size: int) -> Tensor:
    """(B,C,H,W) -> the same; each place becomes the mean of those of the size x size around it inside the picture."""
    inside = torch.ones_like(maps[:1, :1])
    return window_sums(maps, size) / window_sums(inside, size)


def window_sums(maps: Tensor, size: int) -> Tensor:
    """(B,C,H,W) -> the same; each place becomes the sum of the size x size around it, with zeros beyond the border.

    It adds up shifted pictures: on a CPU that takes a quarter of the time of PyTorch's pooling.
    """
    half, height, width = size // 2, maps.shape[2], maps.shape[3]
    padded = F.pad(maps, [half, half, half, half])
    across = padded[:, :, :, :width]
    for shift in range(1, size):
        across = across + padded[:, :, :, shift : shift + width]
    total = across[:, :, :height]
    for shift in range(1, size):
        total = total + across[:, :, shift : shift + height]
    return total


def match_costs(now: Tensor, before: Tensor, radius: int) -> Tensor:
    """now, before (B,1,H,W) -> (B,(2*radius+1)**2,H,W): how much each pixel differs from those around it before.

    These are absolute differences for all shifts of up to `radius` pixels, the usual matching cost of stereo and flow.
    """
    side = 2 * radius + 1
    padded = F.pad(before, [radius, radius, radius, radius], mode="replicate")
    shifted = F.unfold(padded, (side, side))  # (B,side**2,H*W)
    costs = (shifted - now.flatten(2)).abs_()
    return costs.reshape(now.shape[0], side * side, now.shape[2], now.shape[3])
