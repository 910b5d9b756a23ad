"""Running statistics of a sound: what it is like on the whole and how it goes along, at a cost that does not grow."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.lengths import valid_steps
from trainer.networks.log_mel import NUM_MELS


def legendre(order: int) -> Tensor:
    """(order, order+1) float64: the polynomials of degree 1 to `order`, orthonormal on [0,1], by powers from 0 on."""
    rows = torch.zeros(order, order + 1, dtype=torch.float64)
    for degree in range(1, order + 1):
        for power in range(degree + 1):
            size = math.comb(degree, power) * math.comb(degree + power, power)
            rows[degree - 1, power] = math.sqrt(2 * degree + 1) * (-1) ** (degree + power) * size
    return rows


class SoundStatistics(nn.Module):
    """Means, deviations and course of what is heard in a sound and remembered of it, moved on step by step.

    A step weighs as much as it is loud, so that silence around a word hardly counts. The course of a value is its
    part in the polynomials of degree 1 to 4 over the place in the sound, from 0 at its beginning to 1 at its end, by
    weight: whether it rises, is highest in the middle, and so on. All but the mean's own part is left of it, and so
    nothing of what a microphone, a room or a voice adds to all steps alike.

    The statistics (B,N) float64: the weight so far ++ the mean so far of each value of `measure` ++ of those traced,
    the means times the place's powers 1 to 4. In the state each is a float32 and what that lacks: a deviation is the
    root of a difference of two means, in which the rounding of an hour would be seen.
    """

    num_moments: Final[int] = 4
    loudness_exponent: Final[float] = 0.25
    """Of power, as a weight: a step 40 decibels below another counts for a tenth of it."""
    num_cepstra: Final[int] = 20
    """Cosines over the mels: of these, how the sound varies together is told, which is what tells voices' vowels."""
    unheard_weight: Final[float] = 0.3
    """Of the zeros before the first step in the mean so far: about one loud step of speech."""
    least_weight: Final[float] = 1e-6
    least_variance: Final[float] = 0.01
    """Under the root of deviations: without it they would tell silence's rounding errors apart."""

    cosines: Tensor
    pairs: Tensor
    polynomials: Tensor

    def __init__(self, size: int, context: int, frames_per_step: int) -> None:
        """`size`: of each hidden state; `context`: frames before the first step's own."""
        super().__init__()
        self.size, self.context, self.frames_per_step = size, context, frames_per_step
        mels, order = torch.arange(NUM_MELS) + 0.5, torch.arange(self.num_cepstra).unsqueeze(1)
        self.register_buffer("cosines", torch.cos(torch.pi / NUM_MELS * order * mels).T / NUM_MELS**0.75)  # (M,cepstra)
        self.register_buffer("pairs", torch.triu_indices(self.num_cepstra, self.num_cepstra))  # (2,210)
        self.register_buffer("polynomials", legendre(self.num_moments))
        self.value_sizes = [2 * size, 2 * size, NUM_MELS, 3 * NUM_MELS, self.pairs.shape[1], self.num_cepstra]
        self.num_values = sum(self.value_sizes)
        self.num_traced = size + 2 * self.num_cepstra
        self.sizes = [1, self.num_values, self.num_moments * self.num_traced]
        self.num_statistics = sum(self.sizes)
        self.learned_dimension = (4 + self.num_moments) * size
        """Of a summary, what is before the statistics of log-mel itself."""
        spectral_dimension = 4 * NUM_MELS + self.pairs.shape[1] + (1 + 2 * self.num_moments) * self.num_cepstra
        self.dimension = self.learned_dimension + spectral_dimension

    def weigh(self, log_mel: Tensor) -> Tensor:
        """log-mel (B,context+4T,M) -> the weight of each step (B,T) float64."""
        loudness = (log_mel[:, self.context :].logsumexp(dim=2) * self.loudness_exponent).exp()
        weights: Tensor = loudness.reshape(len(loudness), -1, self.frames_per_step).mean(dim=2).double()
        return weights

    def centres(self, statistics: Tensor, frames: Tensor, weights: Tensor) -> Tensor:
        """The mean of normalised log-mel up to each step, and with it: (B,T,M). frames (B,context+4T,M)."""
        total, means, _ = torch.split(statistics, self.sizes, dim=1)
        spectrum = torch.split(means, self.value_sizes, dim=1)[2].unsqueeze(1)  # (B,1,M)
        own = self._by_step(frames[:, self.context :]).double()
        heard = total.unsqueeze(2) * spectrum + (weights.unsqueeze(2) * own).cumsum(dim=1)
        centres: Tensor = heard / (total + weights.cumsum(dim=1) + self.unheard_weight).unsqueeze(2)
        return centres.float()

    def measure(self, frames: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Normalised log-mel (B,context+4T,M), hidden states (B,T,size) -> values (B,T,V) of each step.

        Both hidden states ++ their squares ++ log-mel ++ its square and those of its changes over 10 and 40 ms ++ the
        products of its cepstra ++ how much those change over 40 ms.
        """
        own = frames[:, self.context :]
        near = own - frames[:, self.context - 1 : -1]
        far = own - frames[:, self.context - self.frames_per_step : -self.frames_per_step]
        cepstra, changes = own @ self.cosines, (far @ self.cosines).abs()
        products = cepstra[:, :, self.pairs[0]] * cepstra[:, :, self.pairs[1]]
        spectral = torch.cat((own, own.square(), near.square(), far.square(), products, changes), dim=2)
        hidden = torch.cat((lower, upper), dim=2)
        return torch.cat((hidden, hidden.square(), self._by_step(spectral)), dim=2)

    def add(self, statistics: Tensor, values: Tensor, weights: Tensor, num_steps: Tensor) -> Tensor:
        """Statistics (B,N) moved on by the first `num_steps` (B,) of values (B,T,V), weights (B,T)."""
        before, means, moments = torch.split(statistics, self.sizes, dim=1)
        values = values.double()
        weights = weights * valid_steps(values.shape[1], num_steps)
        total = before + weights.sum(dim=1, keepdim=True)
        shares = (weights / total.clamp(min=self.least_weight)).unsqueeze(1)  # (B,1,T)
        means = means + (shares @ (values - means.unsqueeze(1))).squeeze(1)

        ends = (before + weights.cumsum(dim=1)) / total.clamp(min=self.least_weight)
        powers = torch.arange(1, self.num_moments + 1, device=values.device).unsqueeze(1)
        places = (ends.unsqueeze(1) - shares / 2) ** powers  # (B,moments,T), of the middle of each step
        kept = (before / total.clamp(min=self.least_weight)).unsqueeze(1) ** (powers + 1)  # (B,moments,1)
        moments = self._by_power(moments) * kept + (shares * places) @ self._traced(values)
        return torch.cat((total, means, moments.flatten(1)), dim=1)

    def describe(self, statistics: Tensor) -> Tensor:
        """Statistics (B,N) -> (B,dimension) float64.

        Of both hidden states mean and deviation, of the upper one its course; then of log-mel mean, deviation, and
        root mean square changes, of its cepstra covariances, changes, and the course of both.
        """
        _, means, moments = torch.split(statistics, self.sizes, dim=1)
        hidden, hidden_squares, spectrum, squares, products, changes = torch.split(means, self.value_sizes, dim=1)
        num_mels = spectrum.shape[1]
        deviation = self._root(squares[:, :num_mels] - spectrum.square())
        cepstra = spectrum @ self.cosines.double()
        covariances = products - cepstra[:, self.pairs[0]] * cepstra[:, self.pairs[1]]
        traced = self._traced(means.unsqueeze(1))
        course = self.polynomials @ torch.cat((traced, self._by_power(moments)), dim=1)
        learned = (hidden, self._root(hidden_squares - hidden.square()), course[:, :, : self.size].flatten(1))
        spectral = (spectrum, deviation, self._root(squares[:, num_mels:]), covariances, changes)
        courses = course[:, :, self.size :].flatten(1)
        return torch.cat((torch.cat(learned, dim=1), torch.cat(spectral, dim=1), courses), dim=1)

    def unpack(self, packed: Tensor) -> Tensor:
        """(B,2*N) float32 of the state -> (B,N) float64."""
        rounded, rest = packed.chunk(2, dim=1)
        return rounded.double() + rest.double()

    def pack(self, statistics: Tensor) -> Tensor:
        """(B,N) float64 -> (B,2*N) float32 for the state."""
        rounded = statistics.float()
        return torch.cat((rounded, (statistics - rounded.double()).float()), dim=1)

    def _traced(self, values: Tensor) -> Tensor:
        """Values (B,T,V) float64 -> those whose course is told (B,T,Y): upper hidden state, cepstra, their changes."""
        hidden, _, spectrum, _, _, changes = torch.split(values, self.value_sizes, dim=2)
        return torch.cat((hidden[:, :, self.size :], spectrum @ self.cosines.double(), changes), dim=2)

    def _by_step(self, frames: Tensor) -> Tensor:
        """(B,4T,M) -> the mean of each step (B,T,M)."""
        return frames.reshape(frames.shape[0], -1, self.frames_per_step, frames.shape[2]).mean(dim=2)

    def _by_power(self, moments: Tensor) -> Tensor:
        """(B,moments*Y) -> (B,moments,Y)."""
        return moments.reshape(-1, self.num_moments, self.num_traced)

    def _root(self, variance: Tensor) -> Tensor:
        return (variance.clamp(min=0.0) + self.least_variance).sqrt()
