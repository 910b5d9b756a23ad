"""How something is said: pitch, voicing, loudness, the quality of the voice, and how fast each of them changes."""

from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.log_mel import SAMPLE_RATE
from trainer.networks.moments import RunningMoments

HOP = 320  # samples, 20 ms
WINDOW = 800  # samples, 50 ms: three periods of the lowest voice
FFT_SIZE = 1024  # as long as no shift by up to a period of the lowest voice wraps around
LOWEST_HERTZ, HIGHEST_HERTZ = 75.0, 500.0
BANDS = ((50.0, 1000.0), (1000.0, 5000.0), (0.0, 500.0), (500.0, 1500.0))
"""Hz. The ratio of the first two's power is eGeMAPS' alpha ratio, that of the last two's the low tilt."""


class ProsodyMeasures(nn.Module):
    """Six measures of each 20 ms: waveform (B, overlap + N), N in hops -> (B, N / hop, 7) float32.

    log2(pitch / 100 Hz) ++ voicing, in [0,1] ++ ln mean square ++ three differences of ln power, between BANDS and from
    the first harmonic to the second (a breathy voice has much in the first) ++ 1, which marks a frame that exists;
    frames before the beginning have 0. Logarithms of power are in units of `nepers`, and loudness counts from
    `usual_loudness`, so that their cubes stay small. A frame is measured on the 50 ms that end with it.

    Pitch is the period at the highest peak of the windowed sound's autocorrelation, divided by that of the window
    (Boersma 1993) and interpolated between samples. The height of that peak is the voicing.
    """

    hop: Final[int] = HOP
    fft_size: Final[int] = FFT_SIZE
    overlap: Final[int] = WINDOW - HOP
    num_measures: Final[int] = 6
    floor: Final[float] = 1e-8
    """Mean square, or power of a band, that counts as silence."""
    octave_cost: Final[float] = 0.02
    """What a peak an octave lower costs: two periods repeat as well as one."""
    reference_hertz: Final[float] = 100.0
    nepers: Final[float] = 4.0
    """Unit of logarithms of power: 17 dB."""
    usual_loudness: Final[float] = -8.0
    """About the ln mean square of speech."""

    window: Tensor
    window_likeness: Tensor
    bands: Tensor
    costs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.window_size = WINDOW
        self.shortest, self.longest = int(SAMPLE_RATE / HIGHEST_HERTZ), int(SAMPLE_RATE / LOWEST_HERTZ)  # samples
        self.sample_rate = float(SAMPLE_RATE)
        self.hertz_per_bin = SAMPLE_RATE / FFT_SIZE
        window = torch.hann_window(WINDOW, periodic=True, dtype=torch.float64)
        likeness = self.likeness(torch.fft.rfft(window, self.fft_size).abs().square())
        hertz = torch.arange(self.fft_size // 2 + 1).unsqueeze(1) * SAMPLE_RATE / self.fft_size
        lowest, highest = torch.tensor(BANDS).unbind(1)
        octaves = torch.log2(torch.arange(self.shortest, self.longest + 1, dtype=torch.float64) / self.longest)
        self.register_buffer("window", window)
        self.register_buffer("window_likeness", likeness / likeness[0])
        self.register_buffer("bands", ((lowest <= hertz) & (hertz < highest)).double())  # (F,4)
        self.register_buffer("costs", self.octave_cost * octaves)

    def likeness(self, power: Tensor) -> Tensor:
        """Power spectra (...,F) -> autocorrelations (..., longest + 2), from shift 0 on."""
        found: Tensor = torch.fft.irfft(power, self.fft_size)[..., : self.longest + 2]
        return found

    def forward(self, waveform: Tensor) -> Tensor:
        # Double precision, as in log-mel, so that the machine's FFT does not decide which of two peaks is higher.
        frames = waveform.double().unfold(1, self.window_size, self.hop)
        frames = (frames - frames.mean(dim=2, keepdim=True)) * self.window
        spectrum = torch.fft.rfft(frames, self.fft_size)
        power = spectrum.real.square() + spectrum.imag.square()
        alike = self.likeness(power)  # (B,T,longest+2)
        energy = alike[:, :, :1] / self.window_size
        alike = alike / self.window_size / (energy + self.floor) / self.window_likeness
        before, here = alike[:, :, self.shortest - 1 : -2], alike[:, :, self.shortest : -1]
        after = alike[:, :, self.shortest + 1 :]
        peak = (here >= before) & (here >= after)
        best = torch.where(peak, here - self.costs, -1.0).argmax(dim=2, keepdim=True)
        before, likest, after = before.gather(2, best), here.gather(2, best), after.gather(2, best)
        bend = (2 * likest - before - after).clamp(min=1e-9)
        period = best + self.shortest + (0.5 * (after - before) / bend).clamp(-0.5, 0.5)
        pitch = self.sample_rate / period  # Hz
        voicing = torch.where(peak.gather(2, best), likest, 0.0).clamp(0.0, 1.0)
        power = power / self.window_size
        bands = (power @ self.bands + self.floor).log()
        tilts = (bands[:, :, 0::2] - bands[:, :, 1::2]) / self.nepers
        breath = (self.harmonic(power, pitch) - self.harmonic(power, 2.0 * pitch)) / self.nepers
        height = torch.log2(pitch / self.reference_hertz)
        loudness = ((energy + self.floor).log() - self.usual_loudness) / self.nepers
        return torch.cat((height, voicing, loudness, tilts, breath, torch.ones_like(pitch)), dim=2).float()

    def harmonic(self, power: Tensor, hertz: Tensor) -> Tensor:
        """Power spectra (B,T,F), frequencies (B,T,1) -> ln power of the highest of the three bins there (B,T,1)."""
        middle = (hertz / self.hertz_per_bin).round().long()
        near = power.gather(2, torch.cat((middle - 1, middle, middle + 1), dim=2))
        return (near.amax(dim=2, keepdim=True) + self.floor).log()


class Prosody(nn.Module):
    """Running statistics of ProsodyMeasures, kept by RunningMoments, for steps of whole frames.

    Each measure has a mean, deviation, skewness, course and structure function: the root mean square of its changes
    over 20 ms to 640 ms, which tells how fast and how far it moves. Voicing and loudness count in all frames, the
    others only where there is voice.

    The state is the measures of the last 32 frames ++ the statistics so far.
    """

    lags: Final[list[int]] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
    """Frames."""
    num_past: Final[int] = 32
    """Frames that must be remembered."""
    voiced_from: Final[float] = 0.4
    voiced_range: Final[float] = 0.4
    """Up to `voiced_from` a frame is not voiced at all; with `voiced_range` more it is entirely."""
    least_share: Final[float] = 1e-6
    """Voiced share of the weight; less counts as none."""
    least_variance: Final[float] = 1e-3

    change_limits: Tensor

    def __init__(self, step_samples: int) -> None:
        super().__init__()
        self.measures = ProsodyMeasures()
        self.overlap = self.measures.overlap
        """Samples before a chunk that its frames need."""
        self.frames_per_step = step_samples // self.measures.hop
        self.num_measures = self.measures.num_measures
        self.value_sizes = [*[self.num_measures] * 4, 2 * self.num_measures * len(self.lags)]
        self.moments = RunningMoments(sum(self.value_sizes), 2 * self.num_measures)
        self.state_sizes = [self.num_past * (self.num_measures + 1), 2 * self.moments.size]
        self.state_size = sum(self.state_sizes)
        self.dimension = self.num_measures * (3 + self.moments.num_powers + len(self.lags))
        # More than half an octave in 20 ms is an error of the pitch, not a voice; and silence has no lower limit.
        self.register_buffer("change_limits", torch.tensor([0.5, 1.0, 1.5, 1.0, 1.0, 1.0]))

    def step(self, heard: Tensor, state: Tensor, weights: Tensor, num_steps: Tensor) -> Tensor:
        """waveform (B, overlap + N), state (B,state_size), weights of the steps (B,T), each row's number of steps (B,).

        -> the state after each row's last step.
        """
        past, packed = torch.split(state, self.state_sizes, dim=1)
        past = past.reshape(-1, self.num_past, self.num_measures + 1)
        measures = torch.cat((past, self.measures(heard)), dim=1)
        values = self.values(measures)
        traced = values[:, :, : 2 * self.num_measures]
        statistics = self.moments.add(self.moments.unpack(packed), values, traced, weights, num_steps)
        last = (num_steps * self.frames_per_step).unsqueeze(1) + torch.arange(self.num_past, device=heard.device)
        past = measures.gather(1, last.unsqueeze(2).expand(-1, -1, self.num_measures + 1))
        return torch.cat((past.flatten(1), self.moments.pack(statistics)), dim=1)

    def values(self, measures: Tensor) -> Tensor:
        """Measures (B,32+F,7) of frames, 32 of them before the steps -> values (B,F/frames_per_step,V) of each step.

        The weight w of each measure ++ w times the measure ++ w times its square ++ w times its cube; then for each lag
        the product of both ends' weights ++ that product times the square of the change.
        """
        measures = measures.double()
        voiced = ((measures[:, :, 1:2] - self.voiced_from) / self.voiced_range).clamp(0.0, 1.0)
        there = measures[:, :, -1:]
        weights = torch.cat((voiced, there, there, voiced, voiced, voiced), dim=2)
        measures = measures[:, :, : self.num_measures]
        own, own_weights = measures[:, self.num_past :], weights[:, self.num_past :]
        values = [own_weights, own_weights * own, own_weights * own.square(), own_weights * own**3]
        for lag in self.lags:
            both = own_weights * weights[:, self.num_past - lag : -lag]
            change = own - measures[:, self.num_past - lag : -lag]
            change = torch.minimum(change.abs(), self.change_limits)
            values += [both, both * change.square()]
        frames = torch.cat(values, dim=2)
        return frames.reshape(frames.shape[0], -1, self.frames_per_step, frames.shape[2]).mean(dim=2)

    def describe(self, state: Tensor) -> Tensor:
        """State (B,state_size) -> (B,dimension) float64: means, deviations, skewness, courses, structure functions."""
        statistics = self.moments.unpack(torch.split(state, self.state_sizes, dim=1)[1])
        means = self.moments.means(statistics)
        weight, weighted, squares, cubes, pairs = torch.split(means, self.value_sizes, dim=1)
        weight = weight + self.least_share
        mean = weighted / weight
        squares, cubes = squares / weight, cubes / weight
        deviation = self._root(squares - mean.square())
        skewness = (cubes - 3 * mean * squares + 2 * mean**3) / deviation**3
        course = self.moments.course(statistics, means[:, : 2 * self.num_measures])
        weight_course, value_course = course[:, :, : self.num_measures], course[:, :, self.num_measures :]
        course = (value_course - mean.unsqueeze(1) * weight_course) / weight.unsqueeze(1)
        pairs = pairs.reshape(-1, len(self.lags), 2, self.num_measures)
        structure = self._root(pairs[:, :, 1] / (pairs[:, :, 0] + self.least_share))
        return torch.cat((mean, deviation, skewness, course.flatten(1), structure.flatten(1)), dim=1)

    def _root(self, variance: Tensor) -> Tensor:
        return (variance.clamp(min=0.0) + self.least_variance).sqrt()
