"""The describer of sound: a vector for every 40 ms and one for all so far. It can start at any point."""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.components import Components
from trainer.networks.lengths import divide_up, valid_steps
from trainer.networks.log_mel import NUM_MELS, LogMel
from trainer.networks.prosody import Prosody
from trainer.networks.recurrent import Cell, Recurrent
from trainer.networks.sound_statistics import SoundStatistics
from trainer.recipe.features import Network


class SoundEncoder(nn.Module):
    """What a sound is like: an autoencoder's encoder, the components of what it hears and remembers, and prosody.

    It takes log-mel less its mean so far, then two convolutions that halve the time, then two recurrences. A step is
    640 samples: n steps of sound give n vectors, each of what was heard up to its end. Silence precedes the beginning
    and fills up an incomplete last step.

    The state (B,S) is the last 1,312 samples ++ both recurrences' states ++ the statistics so far ++ prosody's state.
    """

    step_samples: Final[int] = 640
    frames_per_step: Final[int] = 4
    context: Final[int] = 6
    """Frames before a step's own that the convolutions see: there are two, 4 wide, with stride 2."""
    log_mel_mean: Final[float] = -7.0
    log_mel_deviation: Final[float] = 5.0
    """They give about zero mean and unit variance, for speech."""
    kernel_size: Final[int] = 4
    stride: Final[int] = 2

    def __init__(self, cell: Cell, network: Network) -> None:
        super().__init__()
        size = network.size
        self.front_end = LogMel()
        self.fine = nn.Conv1d(NUM_MELS, network.num_channels, self.kernel_size, self.stride)
        self.coarse = nn.Linear(network.num_channels * self.kernel_size, size)  # of windows, as a convolution
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(network.dropout)
        self.lower = Recurrent(cell, size, size)
        self.upper = Recurrent(cell, size, size)
        self.bottleneck = nn.Linear(2 * size, network.bottleneck)
        self.statistics = SoundStatistics(size, self.context, self.frames_per_step)
        self.prosody = Prosody(self.step_samples)
        described = network.bottleneck + self.statistics.dimension
        self.components = Components(described, network.num_components, self.prosody.dimension)
        self.size = size
        self.learned_dimension = network.bottleneck + self.statistics.learned_dimension
        """Length of the part of a summary before the statistics of log-mel itself."""
        self.dimension = network.num_components + self.prosody.dimension
        self.overlap = self.front_end.overlap + self.context * self.front_end.hop
        recurrent_size, packed_size = self.lower.state_size, 2 * self.statistics.moments.size
        self.state_sizes = [self.overlap, recurrent_size, recurrent_size, packed_size, self.prosody.state_size]

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:  # noqa: N803 - the contract's axis letters
        """-> (B,S) before any sound. H and W are 0 for sound."""
        return torch.zeros(B, sum(self.state_sizes))

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """chunk (B,N) float32, N in steps of 640; lengths (B,) samples; state (B,S) -> vectors (B,T,size), state."""
        samples, lower_state, upper_state, packed, prosody = torch.split(state, self.state_sizes, dim=1)
        num_steps = divide_up(lengths, self.step_samples)
        heard = torch.cat((samples, chunk * valid_steps(chunk.shape[1], lengths)), dim=1)
        log_mel = self.front_end(heard)
        frames, weights = self.normalise(log_mel), self.statistics.weigh(log_mel)
        statistics = self.statistics.moments.unpack(packed)
        embedded = self.embed(frames, self.statistics.centres(statistics, frames, weights))
        lower, lower_state = self.lower(embedded, num_steps, lower_state)
        upper, upper_state = self.upper(lower, num_steps, upper_state)
        values = self.statistics.measure(frames, lower, upper)
        packed = self.statistics.moments.pack(self.statistics.add(statistics, values, weights, num_steps))
        prosody = self.prosody.step(heard[:, self.overlap - self.prosody.overlap :], prosody, weights, num_steps)
        last = (num_steps * self.step_samples).unsqueeze(1) + torch.arange(self.overlap, device=chunk.device)
        samples = heard.gather(1, last)
        return upper, torch.cat((samples, lower_state, upper_state, packed, prosody), dim=1)

    @torch.jit.export
    def clip(self, state: Tensor) -> Tensor:
        """state (B,S) -> (B,D): the components of all that was heard since the initial state ++ its prosody."""
        found: Tensor = self.components(self.summary(state))
        return found

    @torch.jit.export
    def log_mel(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (B,N) float32, lengths (B,) samples -> log-mel (B,T,64) every 10 ms, its lengths (B,)."""
        return self.front_end.whole(waveform, lengths)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """waveform (B,N), lengths (B,) samples -> clip (B,D), steps (B,T,size), step lengths (B,)."""
        steps, state = self.listen(waveform, lengths)
        return self.clip(state), steps, divide_up(lengths, self.step_samples)

    def listen(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (B,N), lengths (B,) samples -> vectors (B,T,size), the state (B,S) after all of it."""
        missing = -waveform.shape[1] % self.step_samples
        state = self.initial_state(waveform.shape[0], 0, 0).to(waveform.device)
        return self.step(nn.functional.pad(waveform, [0, missing]), lengths, state)

    def summary(self, state: Tensor) -> Tensor:
        """state (B,S) -> the input of the components, and prosody: (B,R) float64."""
        _, lower_state, upper_state, packed, prosody = torch.split(state, self.state_sizes, dim=1)
        statistics = self.statistics.moments.unpack(packed)
        summary = self.summarise(lower_state[:, : self.size], upper_state[:, : self.size], statistics)
        return torch.cat((summary, self.prosody.describe(prosody)), dim=1)

    def summarise(self, lower: Tensor, upper: Tensor, statistics: Tensor) -> Tensor:
        """Last hidden states (B,size), statistics (B,N) -> the autoencoder's bottleneck ++ their summary (B,R)."""
        bottleneck = torch.tanh(self.bottleneck(torch.cat((lower, upper), dim=1)))
        return torch.cat((bottleneck.double(), self.statistics.describe(statistics)), dim=1)

    def normalise(self, log_mel: Tensor) -> Tensor:
        """Log-mel to about zero mean and unit variance."""
        return (log_mel - self.log_mel_mean) / self.log_mel_deviation

    def embed(self, frames: Tensor, centres: Tensor) -> Tensor:
        """Normalised frames (B,6+4T,M), less the steps' centres (B,T,M) -> (B,T,size).

        These are two plain convolutions, except for the centres: an output of the fine one is used by two steps, and
        each step subtracts its own centre from it.
        """
        fine = self.fine(frames.transpose(1, 2)).transpose(1, 2).unfold(1, self.kernel_size, self.stride)  # (B,T,C,4)
        fine = fine - (centres @ self.fine.weight.sum(dim=2).T).unsqueeze(3)
        embedded: Tensor = self.dropout(self.norm(F.gelu(self.coarse(F.gelu(fine).flatten(2)))))
        return embedded
