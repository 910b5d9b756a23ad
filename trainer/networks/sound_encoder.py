"""The describer of sound: a vector for every 40 ms and one for all so far, from any point on."""

from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.lengths import divide_up, valid_steps
from trainer.networks.log_mel import NUM_MELS, LogMel
from trainer.networks.recurrent import Cell, Recurrent
from trainer.recipe.features import Network


class SoundEncoder(nn.Module):
    """What a sound is like: the encoder of an autoencoder, and running statistics of what it hears and remembers.

    Log-mel, two convolutions that halve the time, two recurrences. A step is 640 samples: n steps of sound give n
    vectors, each of what was heard up to its end. Before the beginning there was silence, and an incomplete last step
    is filled up with it.

    The state (B,S) is the last 1,312 samples ++ both recurrences' ++ statistics: the sums so far of the steps' two
    weights, 1 and loudness, and the mean so far, by either weight, of each value of `measure`. They are in float64,
    each as a float32 and what that lacks: a deviation is the root of a difference of two means, in which the rounding
    of an hour would be seen.
    """

    step_samples: Final[int] = 640
    frames_per_step: Final[int] = 4
    context: Final[int] = 6
    """Frames before a step's own that the convolutions see: two of them, 4 wide, 2 apart."""
    log_mel_mean: Final[float] = -7.0
    log_mel_deviation: Final[float] = 5.0
    """To about zero mean and unit variance, for speech."""
    loudness_exponent: Final[float] = 0.25
    """Of power, as a weight: a step 40 decibels below another counts for a tenth of it."""
    num_cepstra: Final[int] = 20
    """Cosines over the mels: of these, how the sound varies together is told, which is what tells voices' vowels."""
    least_weight: Final[float] = 1e-6
    least_variance: Final[float] = 0.01
    """Under the root of deviations: without it they would tell silence's rounding errors apart."""

    cosines: Tensor
    pairs: Tensor

    def __init__(self, cell: Cell, network: Network) -> None:
        super().__init__()
        size = network.size
        self.front_end = LogMel()
        self.convs = nn.Sequential(
            nn.Conv1d(NUM_MELS, network.num_channels, 4, stride=2),
            nn.GELU(),
            nn.Conv1d(network.num_channels, size, 4, stride=2),
            nn.GELU(),
        )
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(network.dropout)
        self.lower = Recurrent(cell, size, size)
        self.upper = Recurrent(cell, size, size)
        self.bottleneck = nn.Linear(2 * size, network.bottleneck)
        self.size = size
        self.overlap = self.front_end.overlap + self.context * self.front_end.hop
        mels, order = torch.arange(NUM_MELS) + 0.5, torch.arange(self.num_cepstra).unsqueeze(1)
        self.register_buffer("cosines", torch.cos(torch.pi / NUM_MELS * order * mels).T / NUM_MELS**0.75)  # (M,cepstra)
        self.register_buffer("pairs", torch.triu_indices(self.num_cepstra, self.num_cepstra))  # (2,210)
        self.value_sizes = [2 * size, 2 * size, NUM_MELS, 3 * NUM_MELS, self.pairs.shape[1]]
        self.num_values = sum(self.value_sizes)
        self.learned_dimension = network.bottleneck + 2 * 4 * size
        """Of the clip's vector, what is before the statistics of log-mel itself."""
        self.dimension = network.bottleneck + 2 * self.num_values
        recurrent_size = self.lower.state_size
        self.state_sizes = [self.overlap, recurrent_size, recurrent_size, 2 * (2 + 2 * self.num_values)]

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:  # noqa: N803 - the contract's axis letters
        """-> (B,S): nothing heard. H and W are 0 for sound."""
        return torch.zeros(B, sum(self.state_sizes))

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """chunk (B,N) float32, N in steps of 640; lengths (B,) samples; state (B,S) -> vectors (B,T,size), state."""
        samples, lower_state, upper_state, statistics = torch.split(state, self.state_sizes, dim=1)
        num_steps = divide_up(lengths, self.step_samples)
        heard = torch.cat((samples, chunk * valid_steps(chunk.shape[1], lengths)), dim=1)
        log_mel = self.front_end(heard)
        lower, lower_state = self.lower(self.embed(self.normalise(log_mel)), num_steps, lower_state)
        upper, upper_state = self.upper(lower, num_steps, upper_state)
        values, weights = self.measure(log_mel, lower, upper)
        statistics = self.pack(self.average(self.unpack(statistics), values, weights, num_steps))
        last = (num_steps * self.step_samples).unsqueeze(1) + torch.arange(self.overlap, device=chunk.device)
        samples = heard.gather(1, last)
        return upper, torch.cat((samples, lower_state, upper_state, statistics), dim=1)

    @torch.jit.export
    def clip(self, state: Tensor) -> Tensor:
        """state (B,S) -> (B,D): of everything since the initial state.

        The bottleneck of the autoencoder, then, all steps alike and again by loudness, the means and deviations of
        both hidden states; then the same of log-mel with its root mean square changes over 10 and 40 ms, and the
        covariances of its first cepstra.
        """
        _, lower_state, upper_state, statistics = torch.split(state, self.state_sizes, dim=1)
        return self.summarise(lower_state[:, : self.size], upper_state[:, : self.size], self.unpack(statistics))

    @torch.jit.export
    def log_mel(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (B,N) float32, lengths (B,) samples -> log-mel (B,T,64) every 10 ms, its lengths (B,)."""
        return self.front_end.whole(waveform, lengths)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """waveform (B,N), lengths (B,) samples -> clip (B,D), steps (B,T,size), step lengths (B,)."""
        missing = -waveform.shape[1] % self.step_samples
        state = self.initial_state(waveform.shape[0], 0, 0).to(waveform.device)
        steps, state = self.step(nn.functional.pad(waveform, [0, missing]), lengths, state)
        return self.clip(state), steps, divide_up(lengths, self.step_samples)

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Log-mel to about zero mean and unit variance."""
        return (log_mel - self.log_mel_mean) / self.log_mel_deviation

    def embed(self, frames: Tensor) -> Tensor:
        """Normalised frames (B,6+4T,M) -> (B,T,size)."""
        embedded: Tensor = self.dropout(self.norm(self.convs(frames.transpose(1, 2)).transpose(1, 2)))
        return embedded

    def measure(self, log_mel: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """log-mel (B,6+4T,M), hidden states (B,T,size) -> values (B,T,V) of each step, its weights (B,T,2).

        Values: both hidden states ++ their squares ++ log-mel ++ its square and those of its changes over 10 and 40 ms
        ++ the products of its cepstra.
        """
        batch_size, num_steps = lower.shape[0], lower.shape[1]
        frames = self.normalise(log_mel)
        own = frames[:, self.context :]
        near = own - frames[:, self.context - 1 : -1]
        far = own - frames[:, self.context - self.frames_per_step : -self.frames_per_step]
        cepstra = own @ self.cosines
        products = cepstra[:, :, self.pairs[0]] * cepstra[:, :, self.pairs[1]]
        spectral = torch.cat((own, own.square(), near.square(), far.square(), products), dim=2)
        spectral = spectral.reshape(batch_size, num_steps, self.frames_per_step, -1).mean(dim=2)
        hidden = torch.cat((lower, upper), dim=2)
        loudness = (log_mel[:, self.context :].logsumexp(dim=2) * self.loudness_exponent).exp()
        loudness = loudness.reshape(batch_size, num_steps, self.frames_per_step).mean(dim=2)
        weights = torch.stack((torch.ones_like(loudness), loudness), dim=2)
        return torch.cat((hidden, hidden.square(), spectral), dim=2), weights

    def unpack(self, statistics: Tensor) -> Tensor:
        """(B,2*N) float32 of the state -> (B,N) float64."""
        rounded, rest = statistics.chunk(2, dim=1)
        return rounded.double() + rest.double()

    def pack(self, statistics: Tensor) -> Tensor:
        """(B,N) float64 -> (B,2*N) float32 for the state."""
        rounded = statistics.float()
        return torch.cat((rounded, (statistics - rounded.double()).float()), dim=1)

    def average(self, statistics: Tensor, values: Tensor, weights: Tensor, num_steps: Tensor) -> Tensor:
        """Statistics (B,2+2*V) float64, moved on by the first `num_steps` (B,) of values (B,T,V), weights (B,T,2)."""
        totals, means = statistics[:, :2], statistics[:, 2:].reshape(-1, 2, self.num_values)
        weights = weights.double() * valid_steps(values.shape[1], num_steps).unsqueeze(2)
        added = weights.transpose(1, 2) @ values.double() - weights.sum(dim=1).unsqueeze(2) * means  # (B,2,V)
        totals = totals + weights.sum(dim=1)
        means = means + added / totals.clamp(min=self.least_weight).unsqueeze(2)
        return torch.cat((totals, means.flatten(1)), dim=1)

    def summarise(self, lower: Tensor, upper: Tensor, statistics: Tensor) -> Tensor:
        """Last hidden states (B,size), statistics (B,2+2*V) float64 -> the vector of a clip (B,D) float32."""
        bottleneck = torch.tanh(self.bottleneck(torch.cat((lower, upper), dim=1)))
        by_weight = statistics[:, 2:].reshape(-1, 2, self.num_values)
        hidden, hidden_squares, spectrum, squares, products = torch.split(by_weight, self.value_sizes, dim=2)
        learned = torch.cat((hidden, self._root(hidden_squares - hidden.square())), dim=2)
        num_mels = spectrum.shape[2]
        deviation = self._root(squares[:, :, :num_mels] - spectrum.square())
        changes = self._root(squares[:, :, num_mels:])
        cepstra = spectrum @ self.cosines.double()
        covariances = products - cepstra[:, :, self.pairs[0]] * cepstra[:, :, self.pairs[1]]
        spectral = torch.cat((spectrum, deviation, changes, covariances), dim=2)
        return torch.cat((bottleneck, learned.flatten(1).float(), spectral.flatten(1).float()), dim=1)

    def _root(self, variance: Tensor) -> Tensor:
        return (variance.clamp(min=0.0) + self.least_variance).sqrt()
