"""How disorderly things move: optical flow and its boundaries where something moves, measured, not learnt."""

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.flow import fit_slopes, slopes
from trainer.networks.warping import enlarge


class SlopeFlow(nn.Module):
    """The flow from each picture to the one before: (N,1,H,W) twice, in [0,1] -> (N,2,H,W) in pixels.

    It uses least squares alone, from coarse to fine (Bouguet 2000). It loses fast motion, but keeps the edges of what
    it finds; FlowPyramid finds fast motion, but smooths edges away.
    """

    num_levels: Final[int] = 3
    rounds: Final[int] = 2
    window: Final[int] = 7
    stiffness: Final[float] = 6e-5
    largest: Final[float] = 1.0

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        pictures, pictures_before = [now], [before]
        for _ in range(self.num_levels - 1):
            pictures.append(F.avg_pool2d(pictures[-1], 2))
            pictures_before.append(F.avg_pool2d(pictures_before[-1], 2))
        flow = torch.zeros_like(pictures[-1]).expand(-1, 2, -1, -1)
        for level in range(self.num_levels - 1, -1, -1):
            for _ in range(self.rounds):
                flow = fit_slopes(
                    pictures[level], pictures_before[level], flow, self.window, self.stiffness, self.largest
                )
            if level:
                flow = 2.0 * enlarge(flow, 2)
        return flow


class AffineMotion(nn.Module):
    """The part of a flow that the camera makes: (N,2,H,W) -> (N,2,H,W), affine in the place.

    It is fitted by weighted least squares on some of the places, repeated with less weight on those that disagree more
    than others do (Holland & Welsch 1977), so that things that move by themselves count little.
    """

    rounds: Final[int] = 5
    spacing: Final[int] = 4
    tolerance: Final[float] = 1.5
    """A place that disagrees this many times the median loses three quarters of its weight."""
    least_tolerance: Final[float] = 0.05
    """Pixels."""
    stiffness: Final[float] = 1e-4

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, height), torch.linspace(-0.5, 0.5, width), indexing="ij")
        places = torch.stack((torch.ones_like(x), x, y), dim=2)
        self.register_buffer("everywhere", places.flatten(0, 1))  # (H*W,3)
        self.register_buffer("some", places[2 :: self.spacing, 2 :: self.spacing].flatten(0, 1))
        self.everywhere: Tensor
        self.some: Tensor

    def forward(self, flow: Tensor) -> Tensor:
        wanted = flow[:, :, 2 :: self.spacing, 2 :: self.spacing].flatten(2).transpose(1, 2)  # (N,places,2)
        weights = torch.ones_like(wanted[:, :, :1])
        stiff = self.stiffness * torch.eye(3, device=flow.device)
        motion = torch.zeros(flow.shape[0], 3, 2, device=flow.device)
        for _ in range(self.rounds):
            weighted = (weights * self.some).transpose(1, 2)  # (N,3,places)
            motion = torch.linalg.solve(weighted @ self.some + stiff, weighted @ wanted)
            apart = (wanted - self.some @ motion).square().sum(dim=2, keepdim=True).sqrt()
            usual = (self.tolerance * apart.median(dim=1, keepdim=True)[0]).clamp(min=self.least_tolerance)
            weights = (1.0 + (apart / usual).square()).square().reciprocal()
        return (self.everywhere @ motion).transpose(1, 2).reshape(flow.shape)


def by_direction(arrows: Tensor, num_directions: int) -> Tensor:
    """Arrows (N,2,H,W), right and down -> (N,num_directions,H,W): each length, shared between the two nearest."""
    length = arrows.square().sum(dim=1, keepdim=True).sqrt()
    turn = torch.atan2(arrows[:, 1:], arrows[:, :1]) * (num_directions / (2.0 * math.pi))
    directions = torch.arange(num_directions, device=arrows.device).reshape(1, -1, 1, 1)
    away = (turn - directions + 1.5 * num_directions) % num_directions - num_directions / 2
    return length * (1.0 - away.abs()).clamp(min=0.0)


class MotionBoundaries(nn.Module):
    """What moves by itself, step by step, and how differently from what is next to it.

    It subtracts the camera's motion from the flow, takes the slopes of both components of what is left, sorts motion
    and slopes by direction (motion boundary histograms, Dalal, Triggs & Schmid 2006), and keeps running means over some
    steps. Where something moves, these become shares around each place, so that a small mover counts as much as a large
    one, and are averaged over all such places.

    The state (B,S) is the last picture's luma ++ the running means, on a grid a third as fine; all zeros before the
    first step.
    """

    num_directions: Final[int] = 8
    cell: Final[int] = 3
    """Pixels of a place, across and down."""
    around: Final[int] = 3
    """Places across and down that a histogram covers."""
    memory: Final[float] = 0.7
    """What is kept of the running means, per step."""
    pixel: Final[float] = 2.0
    """Flow is given in pixels of a picture of twice the size: 120 rows, say."""
    standing: Final[float] = 0.2
    """Up to this many pixels a step a place stands still; from twice as many on it moves entirely."""
    least_motion: Final[float] = 0.12
    share_of_fastest: Final[float] = 0.3
    """A place counts that moves at least so many pixels a step, and at least this share of the 97th percentile."""
    softness: Final[float] = 4.0
    still_places: Final[float] = 0.5
    """Weight of motionless places in every mean: where nothing moves, they are all that counts."""
    floor: Final[float] = 0.01
    """Added to the amounts of motion and of slopes before the logarithm."""
    state_unit: Final[float] = 16.0
    """Running means are divided by it in the state. States must agree between machines to 1e-5; flow where there is
    little texture does not, since the last bit of a picture is 4e-5 of a pixel there."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        if height % 12 or width % 12:
            raise ValueError(f"{width}x{height}: multiples of 12 are needed")
        self.height, self.width = height, width
        self.flow = SlopeFlow()
        self.camera = AffineMotion(height, width)
        self.grid = [height // self.cell, width // self.cell]
        self.map_sizes = [self.num_directions, self.num_directions, self.num_directions, 1]
        self.num_maps = sum(self.map_sizes) + 1
        self.state_sizes = [height * width, self.num_maps * self.grid[0] * self.grid[1]]
        self.state_size = sum(self.state_sizes)
        self.size = 3 * self.num_directions + 1 + 6
        self.register_buffer("nothing", self.describe(torch.zeros(1, self.num_maps - 1, 1, 1)).flatten())
        self.nothing: Tensor

    def forward(self, light: Tensor, lengths: Tensor, state: Tensor, num_seen: Tensor) -> tuple[Tensor, Tensor]:
        """Luma (B,T,H,W) in [0,1], lengths (B,), state (B,S), steps before (B,) -> steps (B,T,size), state."""
        batch_size, num_steps = light.shape[0], light.shape[1]
        last, means = torch.split(state, self.state_sizes, dim=1)
        # A first picture is compared with itself: nothing moves.
        begun = (num_seen > 0).reshape(-1, 1, 1, 1)
        last = torch.where(begun, last.reshape(-1, 1, self.height, self.width), light[:, :1])
        history = torch.cat((last, light), dim=1)
        maps = self.maps(light.flatten(0, 1).unsqueeze(1), history[:, :-1].flatten(0, 1).unsqueeze(1))
        maps = maps.reshape(batch_size, num_steps, self.num_maps, self.grid[0], self.grid[1])
        mean = self.state_unit * means.reshape(batch_size, self.num_maps, self.grid[0], self.grid[1])
        steps: list[Tensor] = []
        for t in range(num_steps):
            # The first few motions all count alike (Kingma & Ba 2015, bias correction).
            num_motions = (num_seen + t).clamp(min=1.0)
            share = ((1.0 - self.memory) / (1.0 - self.memory**num_motions)).reshape(-1, 1, 1, 1)
            after = torch.lerp(mean, maps[:, t], share)
            mean = torch.where((t < lengths).reshape(-1, 1, 1, 1), after, mean)
            steps.append(after)
        kept = torch.where(begun | (lengths > 0).reshape(-1, 1, 1, 1), 1.0, 0.0).flatten(1)
        rows = torch.arange(batch_size, device=light.device)
        state = torch.cat((history[rows, lengths].flatten(1), mean.flatten(1) / self.state_unit), dim=1) * kept
        told = self.tell(torch.stack(steps, dim=1).flatten(0, 1))
        return told.reshape(batch_size, num_steps, self.size), state

    def maps(self, now: Tensor, before: Tensor) -> Tensor:
        """Luma (N,1,H,W) twice -> (N,num_maps,H/3,W/3): motion and its slopes by direction, standing, speed."""
        flow = self.flow(now, before)
        motion = self.pixel * (self.camera(flow) - flow)
        speed = motion.square().sum(dim=1, keepdim=True).sqrt()
        # A gradual step, so that rounding, which differs between machines, does not decide.
        moves = (speed / self.standing - 1.0).clamp(0.0, 1.0)
        right, down = motion.split(1, dim=1)
        maps = (
            by_direction(motion, self.num_directions) * moves,
            by_direction(slopes(right), self.num_directions),
            by_direction(slopes(down), self.num_directions),
            1.0 - moves,
            speed,
        )
        return F.avg_pool2d(torch.cat(maps, dim=1), self.cell)

    def tell(self, means: Tensor) -> Tensor:
        """Running means (N,num_maps,h,w) -> (N,size): the mean description of places where something moves."""
        speed = means[:, -1:]
        fastest = speed.flatten(1).quantile(0.97, dim=1).reshape(-1, 1, 1, 1)
        threshold = (self.share_of_fastest * fastest).clamp(min=self.least_motion)
        counts = (self.softness * (speed / threshold - 1.0)).clamp(0.0, 1.0)
        near = F.avg_pool2d(means[:, :-1], self.around, 1, self.around // 2, count_include_pad=False)
        total = (counts * self.describe(near)).sum(dim=(2, 3)) + self.still_places * self.nothing
        return total / (counts.sum(dim=(2, 3)) + self.still_places)

    def describe(self, near: Tensor) -> Tensor:
        """What is around places (N,num_maps-1,h,w) -> their descriptions (N,size,h,w).

        These are roots of shares: of each slope by direction, and of motion by direction and of what stands still; then
        the sums of the roots, which grow with the number of directions; then the logarithms of the amounts.
        """
        motion, across, down, still = torch.split(near, self.map_sizes, dim=1)
        across_shares, down_shares = self.shares(across, 0.003), self.shares(down, 0.003)
        told = (across_shares, down_shares, self.shares(torch.cat((motion, still), dim=1), 0.04))
        disorder = [part.sum(dim=1) for part in (across_shares, down_shares, self.shares(motion, 0.01))]
        amounts = [torch.log(part.sum(dim=1) + self.floor) for part in (motion, across, down)]
        return torch.cat((*told, torch.stack(disorder + amounts, dim=1)), dim=1)

    def shares(self, amounts: Tensor, least: float) -> Tensor:
        """(N,D,h,w) -> the roots of their shares of the sum over D; sums below about `least` give little."""
        return (amounts / (amounts.sum(dim=1, keepdim=True) + least)).sqrt()
