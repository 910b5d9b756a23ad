"""Learning to describe sound without labels: one training step and one validation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from trainer.networks.lengths import divide_up, valid_steps
from trainer.networks.log_mel import NUM_MELS, LogMel
from trainer.networks.recurrent import Cell
from trainer.networks.sound_decoder import SoundDecoder, run_whole
from trainer.networks.sound_encoder import SoundEncoder
from trainer.recipe.features import FeaturesRecipe
from trainer.tasks.learner import RANK, Learner
from trainer.tasks.sound_augment import SILENCE, augment
from trainer.tasks.waveforms import Batch

PROJECTED_SIZE = 128


class FeaturesTask(Learner[SoundEncoder]):
    """A SoundEncoder that learns to tell a decoder what it heard.

    Each sound is changed at random in two ways. From one version the decoder reconstructs the other, so that the
    bottleneck holds what both have in common. Also, the descriptions of the two should be more alike than those of
    different sounds (Chen et al. 2020, arXiv 2002.05709).
    """

    def __init__(self, recipe: FeaturesRecipe, cell: Cell) -> None:
        super().__init__(SoundEncoder(cell, recipe.network), recipe.optimisation)
        self.recipe = recipe
        network, settings = recipe.network, recipe.optimisation
        self.step_size = self.network.frames_per_step * NUM_MELS
        self.front_end = LogMel().float()  # double precision would differ by less than the augmentation
        self.decoder = SoundDecoder(cell, network.bottleneck, network.size, self.step_size, settings.teacher_dropout)
        self.project = nn.Sequential(
            nn.Linear(self.network.learned_dimension, network.size), nn.GELU(), nn.Linear(network.size, PROJECTED_SIZE)
        )
        self.loss = MeanMetric()

    def learn(self, batch: Batch) -> Tensor:
        waveform, lengths, _ = batch
        with torch.no_grad():
            heard, steps = self.front_end.whole(waveform, lengths)
            one, one_steps = self._frames(*augment(heard, steps, self.recipe.augmentation))
            other, other_steps = self._frames(*augment(heard, steps, self.recipe.augmentation))
        told, other_told = (self._summarise(*version) for version in ((one, one_steps), (other, other_steps)))
        reconstruction = self._reconstruct(told, other, other_steps) + self._reconstruct(other_told, one, one_steps)
        contrast = self._contrast(told, other_told)
        self.log_dict({"train_reconstruction": reconstruction / 2, "train_contrast": contrast})
        return reconstruction / 2 + self.recipe.optimisation.contrast_weight * contrast

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        waveform, lengths, _ = batch
        with self.float32():
            self.loss.update(self.reconstruction_error(waveform, lengths), len(lengths))
        self.log("val_loss", self.loss)

    def on_validation_epoch_end(self) -> None:
        self.log(RANK, -self.loss.compute(), sync_dist=True)

    def reconstruct(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform (B,N), lengths (B,) samples -> centred log-mel (B,T,M): true, and decoded by the averaged one."""
        frames, steps = self._frames(*self.front_end.whole(waveform, lengths))
        told, true = self._averaged(waveform, lengths), self._centred(frames, steps)
        return true, self._decode(told, true, steps)

    def reconstruction_error(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Mean squared error of `reconstruct`; all valid steps count alike."""
        frames, steps = self._frames(*self.front_end.whole(waveform, lengths))
        return self._reconstruct(self._averaged(waveform, lengths), frames, steps)

    def _averaged(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        return self.averaged.summary(self.averaged.listen(waveform, lengths)[1]).float()

    def _frames(self, log_mel: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (B,T',M), lengths (B,) -> log-mel (B,6+4T,M) with silence before and after, steps (B,)."""
        encoder = self.network
        valid = valid_steps(log_mel.shape[1], lengths).unsqueeze(2)
        missing = -log_mel.shape[1] % encoder.frames_per_step
        frames = F.pad(torch.where(valid, log_mel, SILENCE), (0, 0, encoder.context, missing), value=SILENCE)
        return frames, divide_up(lengths, encoder.frames_per_step)

    def _summarise(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        """Log-mel (B,6+4T,M), lengths (B,) in steps -> (B,R): the same as `summary`, by faster recurrences."""
        encoder, statistics = self.network, self.network.statistics
        frames, weights = encoder.normalise(log_mel), statistics.weigh(log_mel)
        nothing = torch.zeros(len(lengths), statistics.moments.size, dtype=torch.float64, device=log_mel.device)
        lower = run_whole(encoder.lower, encoder.embed(frames, statistics.centres(nothing, frames, weights)))
        upper = run_whole(encoder.upper, lower)
        with self.float32():  # sums over time are not rounded to bfloat16
            lower, upper = lower.float(), upper.float()
            found = statistics.add(nothing, statistics.measure(frames, lower, upper), weights, lengths)
            row, last = torch.arange(len(lengths)), lengths - 1
            return encoder.summarise(lower[row, last], upper[row, last], found).float()

    def _reconstruct(self, told: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
        """Mean squared error of the frames decoded from summaries (B,R), centred; all valid steps count alike."""
        true = self._centred(frames, lengths)
        errors = (self._decode(told, true, lengths) - true).square().reshape(len(true), -1, self.step_size)
        valid = valid_steps(errors.shape[1], lengths).unsqueeze(2)
        return torch.where(valid, errors, 0.0).sum() / (lengths.sum() * self.step_size)

    def _centred(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Log-mel (B,6+4T,M), lengths (B,) in steps -> normalised, less each mel's mean over the sound: (B,4T,M).

        The network is told as little as possible of that mean, and the two versions differ in it at random.
        """
        own = self.network.normalise(frames[:, self.network.context :])
        valid = valid_steps(own.shape[1], lengths * self.network.frames_per_step).unsqueeze(2)
        mean = torch.where(valid, own, 0.0).sum(1, keepdim=True) / valid.sum(1, keepdim=True)
        return torch.where(valid, own - mean, 0.0)

    def _decode(self, told: Tensor, true: Tensor, lengths: Tensor) -> Tensor:
        """Summaries (B,R), true frames (B,4T,M), lengths (B,) in steps -> reconstructed frames (B,4T,M)."""
        bottleneck = told[:, : self.recipe.network.bottleneck]
        steps: Tensor = self.decoder(bottleneck, true.reshape(len(true), -1, self.step_size), lengths)
        return steps.reshape(true.shape)

    def _contrast(self, one: Tensor, other: Tensor) -> Tensor:
        """Cross-entropy of finding the other version of the same sound among all others in the batch."""
        learned = torch.cat((one, other))[:, : self.network.learned_dimension]  # (2B,...)
        projected = F.normalize(self.project(learned).float(), dim=1)
        alike = projected @ projected.T / self.recipe.optimisation.contrast_temperature
        alike = alike.masked_fill(torch.eye(len(alike), dtype=torch.bool), -torch.inf)
        return F.cross_entropy(alike, torch.arange(len(alike)).roll(len(one)))
