"""Learning to tell camera work and edits: one training step and one validation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MultilabelF1Score

from trainer.data.scene_labels import CUT, LABELS
from trainer.networks.camera_classifier import CameraClassifier
from trainer.networks.recurrent import Cell
from trainer.recipe.camera import CameraRecipe
from trainer.tasks.learner import RANK, Learner

Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""frames (B,T,H,W,3) uint8, labels that hold (B,T,K) bool, labels that are scored (B,T,K) bool, speeds (B,T,4)."""
SLOW = 0.02
"""Speeds are learnt as logarithms of multiples of it: 2 % of the picture a second, the slowest."""
UNSCORED = -1


class CameraTask(Learner[CameraClassifier]):
    """A CameraClassifier that learns from scenes about which everything is known."""

    def __init__(self, recipe: CameraRecipe, cell: Cell) -> None:
        super().__init__(
            CameraClassifier(recipe.input.width, recipe.input.height, recipe.input.rate, cell, recipe.network),
            recipe.optimisation,
        )
        self.settings = recipe.optimisation
        self.carry_share = recipe.sampling.carry_share
        self.delay = recipe.input.delay_steps
        self.speed = nn.Linear(2 * recipe.network.size, 4)
        self.carried: Tensor | None = None
        self.loss = MeanMetric()
        self.f1 = MultilabelF1Score(len(LABELS), ignore_index=UNSCORED)

    def learn(self, batch: Batch) -> Tensor:
        frames, holds, scored, speed = batch
        lengths = torch.full((len(frames),), frames.shape[1], device=frames.device)
        state = self._begin(frames)
        with self.float32():  # least squares need float32
            light = self.network.light(frames)
            measured = self.network.measure(light, state)
        embedded = self.network.embed(*measured).float()
        with self.float32():  # so do sums over time
            now, _, hidden, after = self.network.unroll(embedded, lengths, state)
            self.carried = self.network.remember(light, lengths, state, after).detach()
            labels = self.label_loss(now, holds, scored)
            told = self._speed_loss(self.speed(hidden), speed)
        self.log_dict({"trainlabel_loss": labels, "train_speed_loss": told})
        return labels + self.settings.speed_weight * told

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        frames, holds, scored, _ = batch
        lengths = torch.full((len(frames),), frames.shape[1], device=frames.device)
        state = self.averaged.initial_state(len(frames), frames.shape[2], frames.shape[3]).to(frames.device)
        with self.float32():
            (now, _), _ = self.averaged.step(frames, lengths, state)
        self.loss.update(self.label_loss(now, holds, scored), len(frames))
        now, holds, scored = self._aligned(now, holds), self._answered(holds), self._answered(scored)
        self.f1.update(now.flatten(0, 1), torch.where(scored, holds.long(), UNSCORED).flatten(0, 1))
        self.log("val_loss", self.loss)
        self.log("val_macro_f1", self.f1, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.log(RANK, self.f1.compute(), sync_dist=True)

    def _begin(self, frames: Tensor) -> Tensor:
        """The state (B,S) to start from. Sometimes it is that of other scenes, which makes a cut of the beginning."""
        # Drawn even if nothing is carried yet, as at the start of a resumed run, so that later draws stay the same.
        go_on = torch.rand(()) < self.carry_share
        if go_on and self.carried is not None:
            return self.carried[torch.randint(len(self.carried), (len(frames),))]
        return self.network.initial_state(len(frames), frames.shape[2], frames.shape[3]).to(frames.device)

    def _aligned(self, answers: Tensor, like: Tensor) -> Tensor:
        """answers (B,T,...) -> those about a moment within the scene: they come `delay` steps after it."""
        return answers[:, self.delay : like.shape[1]]

    def _answered(self, truth: Tensor) -> Tensor:
        """truth (B,T,...) -> the truth of the moments that are answered within the scene."""
        return truth[:, : truth.shape[1] - self.delay]

    def label_loss(self, now: Tensor, holds: Tensor, scored: Tensor) -> Tensor:
        """Cross-entropy of now (B,T,K), which is `delay` steps late, over the labels that are scored."""
        now, holds, scored = self._aligned(now, holds), self._answered(holds), self._answered(scored)
        weights = scored.float()
        weights[..., CUT] *= torch.where(holds[..., CUT], self.settings.cut_weight, 1.0)
        losses = F.binary_cross_entropy_with_logits(now, holds.float(), reduction="none")
        return (losses * weights).sum() / weights.sum().clamp(min=1.0)

    def _speed_loss(self, told: Tensor, speed: Tensor) -> Tensor:
        """told, speed (B,T,4) -> the distance of their logarithms, where there is a speed."""
        told, speed = self._aligned(told, speed), self._answered(speed)
        known = ~speed.isnan()
        wanted = torch.where(known, speed, 0.0)
        wanted = wanted.sign() * torch.log1p(wanted.abs() / SLOW)
        losses = F.smooth_l1_loss(told, wanted, reduction="none") * known
        return losses.sum() / known.sum().clamp(min=1)
