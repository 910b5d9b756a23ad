"""Each step of a video in numbers that are measured, not learnt: how the whole picture moves and changes."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.picture_motion import LucasKanade


class WholeMotion(nn.Module):
    """How the background moves: the shift, zoom and roll that most cells of a flow agree on.

    It is fitted by weighted least squares, repeated with less weight on cells that disagree (Holland & Welsch 1977), so
    that things that move by themselves count little.
    """

    rounds: Final[int] = 4
    disagreement: Final[float] = 0.15
    """Pixels at which a cell loses three quarters of its weight."""
    stiffness: Final[float] = 1e-3
    """It pulls towards no motion where no cell has evidence."""

    def __init__(self, rows: int, columns: int, aspect: float) -> None:
        """`aspect`: a picture's height divided by its width."""
        super().__init__()
        y, x = torch.meshgrid(
            (torch.arange(rows) + 0.5 - rows / 2) / rows * aspect,
            (torch.arange(columns) + 0.5 - columns / 2) / columns,
            indexing="ij",
        )
        x, y, one, none = x.flatten(), y.flatten(), torch.ones(rows * columns), torch.zeros(rows * columns)
        across, down = torch.stack((one, none, x, -y), dim=1), torch.stack((none, one, y, x), dim=1)
        self.register_buffer("basis", torch.cat((across, down)))  # (2*cells, 4)
        self.basis: Tensor

    def forward(self, flow: Tensor) -> tuple[Tensor, Tensor]:
        """flow (N,3,rows,columns) as LucasKanade has it -> motion (N,4), disagreement (N,).

        Motion: right and down in pixels; zoom and roll in pixels at one width from the centre.
        """
        wanted = torch.cat((flow[:, 0].flatten(1), flow[:, 1].flatten(1)), dim=1)  # (N,2*cells)
        telling = flow[:, 2].flatten(1).clamp(min=0.0)
        weights = telling
        stiff = self.stiffness * torch.eye(4, device=flow.device)
        motion = torch.zeros(flow.shape[0], 4, device=flow.device)
        apart = torch.zeros_like(telling)
        for _ in range(self.rounds):
            weighted = torch.cat((weights, weights), dim=1).unsqueeze(2) * self.basis  # (N,2*cells,4)
            normal = torch.matmul(weighted.transpose(1, 2), self.basis) + stiff
            motion = torch.linalg.solve(normal, torch.bmm(weighted.transpose(1, 2), wanted.unsqueeze(2)))[:, :, 0]
            gaps = (wanted - torch.matmul(motion, self.basis.t())).square()
            apart = gaps[:, : apart.shape[1]] + gaps[:, apart.shape[1] :]
            weights = telling / (1.0 + apart / self.disagreement**2).square()
        mean = (telling * apart).sum(dim=1) / (telling.sum(dim=1) + 1e-3)
        return motion, torch.sqrt(mean + 1e-6)


class MeasuredSteps(nn.Module):
    """Motion since the frame before and since `lag` steps before, change, light and detail. It has no weights."""

    rows: Final[int] = 6
    columns: Final[int] = 8
    num_levels: Final[int] = 4
    num_bins: Final[int] = 16
    slow: Final[float] = 0.02
    """Share of the picture per second. Speeds are given as logarithms of multiples of it."""
    num_signed: Final[int] = 4
    """Signed numbers of each fit: right, down, zoom, roll."""
    num_of_fit: Final[int] = 6
    """Those, how far cells disagree, and how much evidence they have."""
    num_others: Final[int] = 8
    """After the fits: three measures of change over each lag, light and detail."""
    light_scale: Final[float] = 4.0
    detail_scale: Final[float] = 40.0

    def __init__(self, width: int, height: int, rate: float, lag: int) -> None:
        super().__init__()
        self.near = LucasKanade(height, width, self.num_levels, self.rows, self.columns)
        self.far = LucasKanade(height // 2, width // 2, self.num_levels - 1, self.rows, self.columns)
        self.whole = WholeMotion(self.rows, self.columns, height / width)
        self.num_fits = 2 * self.num_levels - 1
        self.size = self.num_fits * self.num_of_fit + self.num_others
        self.flow_size = self.num_fits * LucasKanade.num_channels
        near = [2**level / width * rate for level in range(self.num_levels)]
        far = [2 ** (level + 1) / width * rate / lag for level in range(self.num_levels - 1)]
        self.to_speed = [[pixel] for pixel in near + far]
        """Factors from pixels of each fit's level to picture widths per second."""

    def forward(self, now: Tensor, before: Tensor, half: Tensor, long_before: Tensor) -> tuple[Tensor, Tensor]:
        """Luma (B,T,height,width) in [0,1], that of one step before; luma at half the size, that of `lag` steps before.

        -> steps (B,T,size): for each fit its motion, how far cells disagree and how much evidence they have; then
        change, light and detail. And the flow (B*T,flow_size,rows,columns): the near frame's levels, then the far
        one's.
        """
        near = self.near(before.flatten(0, 1).unsqueeze(1), now.flatten(0, 1).unsqueeze(1))
        far = self.far(long_before.flatten(0, 1).unsqueeze(1), half.flatten(0, 1).unsqueeze(1))
        flow = torch.cat((near, far), dim=1)
        changed = torch.cat((self.changed(now, before), self.changed(half, long_before)), dim=2)
        scale = torch.tensor([self.light_scale, self.detail_scale], device=now.device)
        moved = self.moved(flow).reshape(now.shape[0], now.shape[1], -1)
        return torch.cat((moved, changed, light_and_detail(now) * scale), dim=2), flow

    def moved(self, flow: Tensor) -> Tensor:
        """flow (N,flow_size,rows,columns) -> (N,·), for all levels at once: for a single step, calls cost the most."""
        cells = flow.reshape(flow.shape[0] * self.num_fits, -1, self.rows, self.columns)
        motion, apart = self.whole(cells)
        speed = motion.reshape(-1, self.num_fits, self.num_signed) * torch.tensor(self.to_speed, device=flow.device)
        speed = speed.sign() * torch.log1p(speed.abs() / self.slow) / 2.0
        telling = cells[:, 2].clamp(min=0.0).mean(dim=(1, 2))
        others = torch.stack((torch.log(apart) / 4.0, telling), dim=1).reshape(-1, self.num_fits, 2)
        return torch.cat((speed, others), dim=2).flatten(1)

    def changed(self, light: Tensor, before: Tensor) -> Tensor:
        """light, before (B,T,h,w) -> (B,T,3): mean and largest change, and how far histograms are apart."""
        change = (light - before).abs()
        blocks = F.avg_pool2d(change, 8).amax(dim=(2, 3))
        sizes = torch.stack((change.mean(dim=(2, 3)), blocks), dim=2)
        apart = (self.histogram(light) - self.histogram(before)).abs().sum(dim=2, keepdim=True)
        # A freeze changes by up to 2e-4 of the range, live video by more than 1e-3: logarithms keep them apart.
        return torch.cat((torch.log(sizes + 1e-5) / 4.0 + 1.0, apart), dim=2)

    def histogram(self, light: Tensor) -> Tensor:
        """light (B,T,h,w) -> (B,T,num_bins): shares of the picture."""
        values = F.avg_pool2d(light, 2).flatten(2) * (self.num_bins - 1)
        bins = [(1.0 - (values - level).abs()).clamp(min=0.0).mean(dim=2) for level in range(self.num_bins)]
        return torch.stack(bins, dim=2)


def light_and_detail(light: Tensor) -> Tensor:
    """light (B,T,H,W) in [0,1] -> (B,T,2): mean luma, and mean difference in luma between neighbouring pixels."""
    across = (light[:, :, :, 1:] - light[:, :, :, :-1]).abs().mean(dim=(2, 3))
    down = (light[:, :, 1:] - light[:, :, :-1]).abs().mean(dim=(2, 3))
    return torch.stack((light.mean(dim=(2, 3)), (across + down) / 2), dim=2)
