"""Running weighted means of values and of their course over time, at a cost that does not grow."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.lengths import valid_steps


def legendre(order: int) -> Tensor:
    """(order, order+1) float64: the polynomials of degree 1 to `order`, orthonormal on [0,1], by powers from 0 on."""
    rows = torch.zeros(order, order + 1, dtype=torch.float64)
    for degree in range(1, order + 1):
        for power in range(degree + 1):
            size = math.comb(degree, power) * math.comb(degree + power, power)
            rows[degree - 1, power] = math.sqrt(2 * degree + 1) * (-1) ** (degree + power) * size
    return rows


class RunningMoments(nn.Module):
    """The weighted means of values so far and, for traced values, their course; updated step by step.

    The course of a value is its projection on polynomials of degree 1 to 4 over the place in the sound. The place is 0
    at the beginning and 1 at the end, counted by weight. The course tells whether the value rises, peaks in the middle,
    and so on. It leaves out the mean, and so everything that a microphone, a room or a voice adds to all steps alike.

    The statistics (B,size), float64, are the weight so far ++ each value's mean so far ++ for traced values, the means
    of the value times the place to the powers 1 to 4. The state keeps each as a float32 and its rounding error: a
    deviation is the root of a difference of two means, in which an hour's rounding would show.
    """

    num_powers: Final[int] = 4
    least_weight: Final[float] = 1e-6

    polynomials: Tensor

    def __init__(self, num_values: int, num_traced: int) -> None:
        super().__init__()
        self.register_buffer("polynomials", legendre(self.num_powers))
        self.num_traced = num_traced
        self.sizes = [1, num_values, self.num_powers * num_traced]
        self.size = sum(self.sizes)

    def add(self, statistics: Tensor, values: Tensor, traced: Tensor, weights: Tensor, num_steps: Tensor) -> Tensor:
        """Statistics updated with the first `num_steps` (B,) of values (B,T,V), traced ones (B,T,Y), weights (B,T)."""
        before, means, moments = torch.split(statistics, self.sizes, dim=1)
        values = values.double()
        weights = weights * valid_steps(values.shape[1], num_steps)
        total = before + weights.sum(dim=1, keepdim=True)
        shares = (weights / total.clamp(min=self.least_weight)).unsqueeze(1)  # (B,1,T)
        means = means + (shares @ (values - means.unsqueeze(1))).squeeze(1)

        ends = (before + weights.cumsum(dim=1)) / total.clamp(min=self.least_weight)
        powers = torch.arange(1, self.num_powers + 1, device=values.device).unsqueeze(1)
        places = (ends.unsqueeze(1) - shares / 2) ** powers  # (B,powers,T), at the middle of each step
        kept = (before / total.clamp(min=self.least_weight)).unsqueeze(1) ** (powers + 1)  # (B,powers,1)
        moments = self._by_power(moments) * kept + (shares * places) @ traced.double()
        return torch.cat((total, means, moments.flatten(1)), dim=1)

    def total(self, statistics: Tensor) -> Tensor:
        """The weight so far (B,1)."""
        return statistics[:, :1]

    def means(self, statistics: Tensor) -> Tensor:
        """The mean so far of each value (B,V)."""
        return torch.split(statistics, self.sizes, dim=1)[1]

    def course(self, statistics: Tensor, traced: Tensor) -> Tensor:
        """The course (B,4,Y) of what is traced, given its means (B,Y)."""
        moments = self._by_power(torch.split(statistics, self.sizes, dim=1)[2])
        found: Tensor = self.polynomials @ torch.cat((traced.unsqueeze(1), moments), dim=1)
        return found

    def unpack(self, packed: Tensor) -> Tensor:
        """(B,2*size) float32 of the state -> (B,size) float64."""
        rounded, rest = packed.chunk(2, dim=1)
        return rounded.double() + rest.double()

    def pack(self, statistics: Tensor) -> Tensor:
        """(B,size) float64 -> (B,2*size) float32 for the state."""
        rounded = statistics.float()
        return torch.cat((rounded, (statistics - rounded.double()).float()), dim=1)

    def _by_power(self, moments: Tensor) -> Tensor:
        """(B,powers*Y) -> (B,powers,Y)."""
        return moments.reshape(-1, self.num_powers, self.num_traced)
