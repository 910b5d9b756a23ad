"""Running statistics of a sound: of what is heard and of what is remembered, overall and over time."""

from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.log_mel import NUM_MELS
from trainer.networks.moments import RunningMoments


class SoundStatistics(nn.Module):
    """Means, deviations and course of log-mel and of hidden states, kept by RunningMoments.

    A step weighs as much as it is loud, so that silence around a word hardly counts.
    """

    loudness_exponent: Final[float] = 0.25
    """A step weighs its power to this exponent: one that is 40 decibels quieter counts a tenth."""
    num_cepstra: Final[int] = 20
    """Cosines over the mels. Their covariances are told, which show the vowels of a voice."""
    unheard_weight: Final[float] = 0.3
    """Weight in the mean so far of the zeros before the first step: about one loud step of speech."""
    least_variance: Final[float] = 0.01
    """Added under the root of deviations; without it they would tell apart the rounding errors of silence."""

    cosines: Tensor
    pairs: Tensor

    def __init__(self, size: int, context: int, frames_per_step: int) -> None:
        """`size`: of each hidden state; `context`: frames before the first step's own."""
        super().__init__()
        self.size, self.context, self.frames_per_step = size, context, frames_per_step
        mels, order = torch.arange(NUM_MELS) + 0.5, torch.arange(self.num_cepstra).unsqueeze(1)
        self.register_buffer("cosines", torch.cos(torch.pi / NUM_MELS * order * mels).T / NUM_MELS**0.75)  # (M,cepstra)
        self.register_buffer("pairs", torch.triu_indices(self.num_cepstra, self.num_cepstra))  # (2,210)
        self.value_sizes = [2 * size, 2 * size, NUM_MELS, 3 * NUM_MELS, self.pairs.shape[1], self.num_cepstra]
        self.num_values = sum(self.value_sizes)
        self.moments = RunningMoments(self.num_values, size + 2 * self.num_cepstra)
        num_powers = self.moments.num_powers
        self.learned_dimension = (4 + num_powers) * size
        """Length of the part of a summary before the statistics of log-mel itself."""
        spectral_dimension = 4 * NUM_MELS + self.pairs.shape[1] + (1 + 2 * num_powers) * self.num_cepstra
        self.dimension = self.learned_dimension + spectral_dimension

    def weigh(self, log_mel: Tensor) -> Tensor:
        """log-mel (B,context+4T,M) -> the weight of each step (B,T) float64."""
        loudness = (log_mel[:, self.context :].logsumexp(dim=2) * self.loudness_exponent).exp()
        weights: Tensor = loudness.reshape(len(loudness), -1, self.frames_per_step).mean(dim=2).double()
        return weights

    def centres(self, statistics: Tensor, frames: Tensor, weights: Tensor) -> Tensor:
        """The mean of normalised log-mel up to and with each step: (B,T,M). frames (B,context+4T,M)."""
        total = self.moments.total(statistics)
        spectrum = torch.split(self.moments.means(statistics), self.value_sizes, dim=1)[2].unsqueeze(1)  # (B,1,M)
        own = self._by_step(frames[:, self.context :]).double()
        heard = total.unsqueeze(2) * spectrum + (weights.unsqueeze(2) * own).cumsum(dim=1)
        centres: Tensor = heard / (total + weights.cumsum(dim=1) + self.unheard_weight).unsqueeze(2)
        return centres.float()

    def measure(self, frames: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Normalised log-mel (B,context+4T,M), hidden states (B,T,size) -> values (B,T,V) of each step.

        Both hidden states ++ their squares ++ log-mel ++ the squares of it and of its changes over 10 and 40 ms ++ the
        products of its cepstra ++ the absolute changes of the cepstra over 40 ms.
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
        """Statistics updated with the first `num_steps` (B,) of values (B,T,V), weights (B,T)."""
        return self.moments.add(statistics, values, self._traced(values.double()), weights, num_steps)

    def describe(self, statistics: Tensor) -> Tensor:
        """Statistics -> (B,dimension) float64.

        Mean and deviation of both hidden states, and the course of the upper one; then mean, deviation and root mean
        square changes of log-mel; covariances and changes of its cepstra, and the course of both.
        """
        means = self.moments.means(statistics)
        hidden, hidden_squares, spectrum, squares, products, changes = torch.split(means, self.value_sizes, dim=1)
        num_mels = spectrum.shape[1]
        deviation = self._root(squares[:, :num_mels] - spectrum.square())
        cepstra = spectrum @ self.cosines.double()
        covariances = products - cepstra[:, self.pairs[0]] * cepstra[:, self.pairs[1]]
        course = self.moments.course(statistics, self._traced(means.unsqueeze(1)).squeeze(1))
        learned = (hidden, self._root(hidden_squares - hidden.square()), course[:, :, : self.size].flatten(1))
        spectral = (spectrum, deviation, self._root(squares[:, num_mels:]), covariances, changes)
        courses = course[:, :, self.size :].flatten(1)
        return torch.cat((torch.cat(learned, dim=1), torch.cat(spectral, dim=1), courses), dim=1)

    def _traced(self, values: Tensor) -> Tensor:
        """Values (B,T,V) float64 -> those whose course is kept (B,T,Y): upper hidden state, cepstra, their changes."""
        hidden, _, spectrum, _, _, changes = torch.split(values, self.value_sizes, dim=2)
        return torch.cat((hidden[:, :, self.size :], spectrum @ self.cosines.double(), changes), dim=2)

    def _by_step(self, frames: Tensor) -> Tensor:
        """(B,4T,M) -> the mean of each step (B,T,M)."""
        return frames.reshape(frames.shape[0], -1, self.frames_per_step, frames.shape[2]).mean(dim=2)

    def _root(self, variance: Tensor) -> Tensor:
        return (variance.clamp(min=0.0) + self.least_variance).sqrt()
