"""Log-mel spectrograms inside the module: serving computes exactly what training did, for chunks of any size."""

import math
from typing import Final

import torch
from torch import Tensor, nn

from trainer.networks.lengths import divide_up, valid_steps

SAMPLE_RATE = 16_000
HOP = 160  # samples, 10 ms
WINDOW = 400  # samples, 25 ms
FFT_SIZE = 512
NUM_MELS = 64
LOWEST_HERTZ, HIGHEST_HERTZ = 60.0, 7600.0
NEPERS_PER_DECIBEL = math.log(10.0) / 10.0
"""Of power, since the logarithm is that of power."""
MEL_BREAK_HERTZ = 700.0  # HTK: mel = 2595 log10(1 + hertz / 700)


def mel_edges() -> Tensor:
    """(NUM_MELS + 2,) float64, Hz: start, peak and end of the triangles, evenly spaced on the HTK mel scale."""
    lowest, highest = (math.log1p(edge / MEL_BREAK_HERTZ) for edge in (LOWEST_HERTZ, HIGHEST_HERTZ))
    return MEL_BREAK_HERTZ * torch.expm1(torch.linspace(lowest, highest, NUM_MELS + 2, dtype=torch.float64))


def mel_centres() -> Tensor:
    """(NUM_MELS,) float64, Hz."""
    return mel_edges()[1:-1]


def mel_position(hertz: Tensor) -> Tensor:
    """Where a frequency is among the mels: 0 at the centre of the first, NUM_MELS - 1 at that of the last."""
    lowest, highest = (math.log1p(edge / MEL_BREAK_HERTZ) for edge in (LOWEST_HERTZ, HIGHEST_HERTZ))
    return (torch.log1p(hertz / MEL_BREAK_HERTZ) - lowest) / (highest - lowest) * (NUM_MELS + 1) - 1


def mel_filters() -> Tensor:
    """(FFT_SIZE // 2 + 1, NUM_MELS) float64: triangles of height 1."""
    hertz = torch.arange(FFT_SIZE // 2 + 1, dtype=torch.float64).unsqueeze(1) * SAMPLE_RATE / FFT_SIZE
    edges = mel_edges()
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz - left) / (centre - left), (right - hertz) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)


class LogMel(nn.Module):
    """ln(mel power + floor) of 25 ms windows, 10 ms apart; each window ends where its 10 ms of sound end.

    Frame t covers samples [160 t - 240, 160 t + 160), so that n hops of sound give n frames and none waits for later
    sound. Before the beginning there is silence. Hann (periodic), FFT 512, 64 HTK mels from 60 to
    7600 Hz.
    """

    hop: Final[int] = HOP
    fft_size: Final[int] = FFT_SIZE
    overlap: Final[int] = FFT_SIZE - HOP
    """Samples before a chunk that its frames need. The window is 0 for the first 112 of them."""
    floor: Final[float] = 1e-8
    """Power of a mel band that counts as silence: about the quantisation noise of 16 bits."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = torch.hann_window(WINDOW, periodic=True, dtype=torch.float64)
        self.register_buffer("window", nn.functional.pad(hann, (FFT_SIZE - WINDOW, 0)))
        # Double precision: in single precision a quiet band beside a loud one depends on the machine's FFT, and the
        # logarithm magnifies that. Double takes nine times as long: 1.6 ms for a second of sound.
        self.register_buffer("filters", mel_filters())

    def forward(self, waveform: Tensor) -> Tensor:
        """waveform (B, overlap + N) float32, first the overlap with earlier sound, N in hops -> (B, N / hop, 64)."""
        spectrum = torch.stft(
            waveform.to(self.window.dtype),
            n_fft=self.fft_size,
            hop_length=self.hop,
            window=self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power.transpose(1, 2) @ self.filters
        return torch.log(mel + self.floor).to(torch.float32)

    def whole(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (B,N) from its beginning, lengths (B,) samples -> log-mel (B,T,64), steps (B,).

        Silence precedes the sound, fills up its last incomplete hop, and replaces all that lies beyond a length.
        """
        heard = waveform * valid_steps(waveform.shape[1], lengths)
        missing = -waveform.shape[1] % self.hop
        return self(nn.functional.pad(heard, [self.overlap, missing])), divide_up(lengths, self.hop)
