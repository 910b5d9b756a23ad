"""The classifier of sound: from a whole waveform to logits. It hears all of it before it answers."""

import itertools
from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.lengths import divide_up, reversed_steps, valid_steps
from trainer.networks.log_mel import NEPERS_PER_DECIBEL, NUM_MELS, LogMel
from trainer.networks.recurrent import Cell
from trainer.recipe.listen import Network


class MaskedConv(nn.Module):
    """Convolution over time and mels, BatchNorm, ReLU: (B,C,T,M) -> (B,num_channels,ceil(T/time_stride),ceil(M/2)).

    Inputs and outputs beyond a length are zero, as if the sound ended there.
    """

    def __init__(self, in_channels: int, num_channels: int, kernel_size: int, time_stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_channels, kernel_size, (time_stride, 2), kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(num_channels)
        self.time_stride = time_stride

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,C,T,M), lengths (B,) -> the same of the next layer."""
        x = torch.relu(self.norm(self.conv(x)))
        lengths = divide_up(lengths, self.time_stride)
        return x * valid_steps(x.shape[2], lengths).reshape(x.shape[0], 1, -1, 1), lengths


class BothWays(nn.Module):
    """One LSTM or GRU forwards, another backwards from each row's last valid step: (B,T,D) -> (B,T,2*size).

    It uses PyTorch's own recurrences, unlike `Recurrent`: it gives no state away, and training takes half as long.
    """

    def __init__(self, cell: Cell, input_size: int, size: int) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.forwards = kind(input_size, size, batch_first=True)
        self.backwards = kind(input_size, size, batch_first=True)
        self.size = 2 * size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B,T,D), lengths (B,) -> hidden (B,T,2*size)."""
        ahead = self.forwards(x)[0]
        behind = self.backwards(reversed_steps(x, lengths))[0]
        return torch.cat((ahead, reversed_steps(behind, lengths)), dim=2)


class AttentivePool(nn.Module):
    """Mean and deviation of all valid steps, weighted by learned queries, one per head: (B,T,size) -> (B,2*size).

    Okabe et al. 2018, arXiv 1803.10963.
    """

    least_score: Final[float] = -1e9
    """Score of invalid steps. Its exp is 0, and unlike minus infinity it makes no NaN where no step is valid."""
    least_variance: Final[float] = 1e-4
    """Under the root, whose slope at 0 is infinite."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        # The last layer has no bias: softmax cancels it.
        self.score = nn.Sequential(nn.Linear(size, size // 4), nn.Tanh(), nn.Linear(size // 4, num_heads, bias=False))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B,T,size), lengths (B,) -> (B,2*size)."""
        batch_size, num_steps = x.shape[0], x.shape[1]
        valid = valid_steps(num_steps, lengths).unsqueeze(2)  # (B,T,1)
        weights = torch.where(valid, self.score(x), self.least_score).softmax(dim=1).unsqueeze(3)  # (B,T,heads,1)
        values = x.reshape(batch_size, num_steps, self.num_heads, -1)
        mean = (values * weights).sum(dim=1)
        variance = ((values - mean.unsqueeze(1)).square() * weights).sum(dim=1)
        return torch.cat((mean.flatten(1), (variance + self.least_variance).sqrt().flatten(1)), dim=1)


class SoundClassifier(nn.Module):
    """Tells which of `num_labels` things is heard.

    Log-mel, convolutions that halve the mels (some of them the time too), a recurrence in both directions, and
    attention over its steps.
    """

    silence: Final[float] = 35.0 * NEPERS_PER_DECIBEL
    """A step this far below the loudest one is silent, in nepers of power."""
    margin: Final[int] = 5
    """Steps of 10 ms that are kept around what is not silent."""
    log_mel_mean: Final[float] = -7.0
    log_mel_deviation: Final[float] = 5.0
    """They give log-mel about zero mean and unit variance: measured on speech."""

    def __init__(self, num_labels: int, cell: Cell, network: Network) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.centred = network.centred
        self.range = network.range_decibels * NEPERS_PER_DECIBEL
        channels = [1, *network.num_channels]
        strides = [2 if stage < network.halve_time else 1 for stage in range(len(network.num_channels))]
        self.convs = nn.ModuleList(
            MaskedConv(previous, width, 5 if previous == 1 else 3, stride)
            for (previous, width), stride in zip(itertools.pairwise(channels), strides, strict=True)
        )
        num_features = network.num_channels[-1] * (NUM_MELS >> len(network.num_channels))
        self.embedding = nn.Sequential(
            nn.Linear(num_features, network.size), nn.LayerNorm(network.size), nn.Dropout(network.dropout)
        )
        self.recurrences = nn.ModuleList(
            BothWays(cell, network.size if layer == 0 else 2 * network.recurrent_size, network.recurrent_size)
            for layer in range(network.num_layers)
        )
        size = network.size + 2 * network.recurrent_size
        self.pool = AttentivePool(size, network.num_heads)
        self.logits = nn.Sequential(nn.Dropout(network.dropout), nn.Linear(2 * size, num_labels))

    def trim(self, log_mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """log-mel (B,T,M), lengths (B,) -> the same from the first to the last step that is not silent, and a margin.

        How long someone pauses before and after speaking means nothing, but a network that sees few sounds learns it.
        """
        steps = torch.arange(log_mel.shape[1], device=log_mel.device)
        valid = valid_steps(log_mel.shape[1], lengths)
        loudness = torch.where(valid, log_mel.logsumexp(dim=2), -torch.inf)  # (B,T)
        active = loudness >= loudness.amax(dim=1, keepdim=True) - self.silence
        first = torch.where(active, steps, log_mel.shape[1]).amin(dim=1) - self.margin
        last = torch.where(active, steps, -1).amax(dim=1) + self.margin
        first = first.clamp(min=0)
        trimmed = (torch.minimum(last + 1, lengths) - first).clamp(min=0)
        places = first.unsqueeze(1) + torch.arange(int(trimmed.max()), device=log_mel.device)
        places = places.clamp(max=log_mel.shape[1] - 1).unsqueeze(2).expand(-1, -1, log_mel.shape[2])
        return log_mel.gather(1, places), trimmed

    def classify(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        """log-mel (B,T,M), lengths (B,) in steps -> logits (B,K)."""
        valid = valid_steps(log_mel.shape[1], lengths).unsqueeze(2)
        if self.range > 0.0:
            loudest = torch.where(valid, log_mel, -torch.inf).amax(dim=(1, 2), keepdim=True)
            log_mel = torch.maximum(log_mel, loudest - self.range)
        if self.centred:  # less what a microphone or a voice adds to all steps alike
            total = torch.where(valid, log_mel, 0.0).sum(dim=1, keepdim=True)
            log_mel = log_mel - total / lengths.clamp(min=1).reshape(-1, 1, 1)
        else:
            log_mel = log_mel - self.log_mel_mean
        x = torch.where(valid, log_mel / self.log_mel_deviation, 0.0).unsqueeze(1)  # (B,1,T,M)
        for conv in self.convs:
            x, lengths = conv(x, lengths)
        embedded = self.embedding(x.transpose(1, 2).flatten(2))  # (B,T,size)
        x = embedded
        for recurrence in self.recurrences:
            x = recurrence(x, lengths)
        logits: Tensor = self.logits(self.pool(torch.cat((embedded, x), dim=2), lengths))
        return logits

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """waveform (B,N) float32 in [-1,1] at 16 kHz, lengths (B,) samples -> logits (B,K)."""
        log_mel, steps = self.trim(*self.log_mel.whole(waveform, lengths))
        return self.classify(log_mel, steps)
