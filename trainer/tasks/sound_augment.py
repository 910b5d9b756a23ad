"""Random changes to log-mel spectrograms that change neither what is said nor how."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.networks.lengths import valid_steps
from trainer.networks.log_mel import NEPERS_PER_DECIBEL, NUM_MELS, LogMel, mel_centres, mel_position
from trainer.recipe.listen import Augmentation

SILENCE = math.log(LogMel.floor)
CURVES = 4
"""Cosines that make up a random colour: no microphone changes over less than an eighth of the mels."""
NOISE_DECIBELS = (5.0, 40.0)
NOISE_DEVIATION = 0.4
"""Of the logarithm of noise power in a mel band of a 25 ms window, roughly."""


def augment(log_mel: Tensor, lengths: Tensor, augmentation: Augmentation) -> tuple[Tensor, Tensor]:
    """log-mel (B,T,M), lengths (B,) in steps -> the same, changed; blanks hold the sound's own mean."""
    log_mel, lengths = stretch(log_mel, lengths, augmentation.tempo, augmentation.pitch)
    valid = valid_steps(log_mel.shape[1], lengths).unsqueeze(2)
    if augmentation.noise:
        log_mel = add_noise(log_mel, augmentation.noise)
    gain = _uniform(len(log_mel), -1.0, 1.0).reshape(-1, 1, 1) * augmentation.gain_decibels
    log_mel = log_mel + (gain + augmentation.colour_decibels * _curves(len(log_mel))) * NEPERS_PER_DECIBEL
    mean = torch.where(valid, log_mel, 0.0).sum(1, keepdim=True) / lengths.reshape(-1, 1, 1)
    return torch.where(_masks(log_mel, lengths, augmentation), mean, log_mel), lengths


def stretch(log_mel: Tensor, lengths: Tensor, tempo: float, pitch: float) -> tuple[Tensor, Tensor]:
    """Faster or slower by up to `tempo`, higher or lower by up to `pitch`, each independent of the other."""
    batch_size, num_steps = log_mel.shape[0], log_mel.shape[1]
    speed = tempo ** _uniform(batch_size, -1.0, 1.0)
    changed = (lengths / speed).round().long().clamp(min=1)
    times = torch.arange(int(changed.max())) * speed.unsqueeze(1)  # (B,T') in steps of the original
    times = torch.minimum(times, (lengths - 1).unsqueeze(1))
    centres = mel_centres() / pitch ** _uniform(batch_size, -1.0, 1.0).unsqueeze(1)  # (B,M) Hz in the original
    mels = mel_position(centres).clamp(0.0, NUM_MELS - 1.0)
    grid = torch.stack(
        (
            (mels / (NUM_MELS - 1) * 2 - 1).unsqueeze(1).expand(-1, times.shape[1], -1),
            (times / max(1, num_steps - 1) * 2 - 1).unsqueeze(2).expand(-1, -1, NUM_MELS),
        ),
        dim=3,
    )  # (B,T',M,2)
    stretched = F.grid_sample(log_mel.unsqueeze(1), grid.float(), padding_mode="border", align_corners=True)
    return stretched.squeeze(1), changed


def add_noise(log_mel: Tensor, chance: float) -> Tensor:
    """Adds noise of a random colour and level to some of the sounds."""
    level = log_mel.amax(dim=1).mean(dim=1) - _uniform(len(log_mel), *NOISE_DECIBELS) * NEPERS_PER_DECIBEL
    level = torch.where(torch.rand(len(log_mel)) < chance, level, SILENCE)
    noise = level.reshape(-1, 1, 1) + _curves(len(log_mel)) + NOISE_DEVIATION * torch.randn_like(log_mel)
    return torch.logaddexp(log_mel, noise)


def mix(log_mel: Tensor, lengths: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """log-mel (B,T,M), lengths (B,), targets (B,K) -> the same, each blended with another; the longer length counts."""
    if not alpha:
        return log_mel, lengths, targets
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    quiet = torch.where(valid_steps(log_mel.shape[1], lengths).unsqueeze(2), log_mel, SILENCE)
    mixed = torch.lerp(quiet.flip(0), quiet, share)
    return mixed, torch.maximum(lengths, lengths.flip(0)), torch.lerp(targets.flip(0), targets, share)


def _masks(log_mel: Tensor, lengths: Tensor, augmentation: Augmentation) -> Tensor:
    """(B,T,M) bool: the places that are blanked."""
    batch_size, num_steps, num_mels = log_mel.shape
    masked = torch.zeros(batch_size, num_steps, num_mels, dtype=torch.bool)
    widths = torch.full((batch_size,), float(augmentation.mel_mask_width))
    for _ in range(augmentation.mel_masks):
        masked |= _spans(num_mels, torch.full_like(widths, num_mels), widths).unsqueeze(1)
    for _ in range(augmentation.time_masks):
        masked |= _spans(num_steps, lengths.float(), lengths * augmentation.time_mask_width).unsqueeze(2)
    return masked


def _spans(size: int, ends: Tensor, widths: Tensor) -> Tensor:
    """(B,size) bool: in each row one span within [0, end), up to its width."""
    width = torch.rand(len(ends)) * widths
    start = torch.rand(len(ends)) * (ends - width)
    places = torch.arange(size).unsqueeze(0)
    return (places >= start.unsqueeze(1)) & (places < (start + width).unsqueeze(1))


def _curves(batch_size: int) -> Tensor:
    """(B,1,M): smooth random curves over the mels, of deviation 1."""
    mels = torch.linspace(0.0, math.pi, NUM_MELS)
    cosines = torch.cos(torch.arange(1, CURVES + 1).unsqueeze(1) * mels)  # (CURVES,M)
    curves: Tensor = torch.randn(batch_size, CURVES) @ cosines * (2 / CURVES) ** 0.5
    return curves.unsqueeze(1)


def _uniform(count: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(count)
