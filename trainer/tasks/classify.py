"""Learning to classify video: one training step and one validation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from trainer.networks.classifier import VideoClassifier
from trainer.networks.decoders import ForecastDecoder
from trainer.networks.lengths import valid_steps
from trainer.networks.recurrent import Cell
from trainer.recipe.classify import ClassifyRecipe
from trainer.tasks.augment import augment
from trainer.tasks.class_weights import class_weights
from trainer.tasks.learner import LOSS_IN_RANK, RANK, Learner
from trainer.tasks.teachers import Teachers

Batch = tuple[Tensor, Tensor, Tensor]
"""frames (B,T,H,W,3) uint8, labels by step (B,T) int64, lengths (B,) int64."""


class ClassifyTask(Learner[VideoClassifier]):
    """A VideoClassifier that learns from clips in which every step has a label."""

    class_weights: Tensor

    def __init__(
        self, recipe: ClassifyRecipe, cell: Cell, label_counts: Sequence[int], teachers: Teachers | None = None
    ) -> None:
        """`label_counts[i]`: how many training videos are of label i."""
        shape, num_labels = recipe.input, len(label_counts)
        network = VideoClassifier(num_labels, shape.width, shape.height, cell, recipe.network)
        super().__init__(network, recipe.optimisation)
        self.recipe = recipe
        self.teachers = teachers
        size = recipe.network.size
        self.forecaster = ForecastDecoder(cell, size, size) if recipe.optimisation.forecast_weight else None
        weights = class_weights(recipe.optimisation.class_weights, label_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.carried: Tensor | None = None
        self.accuracy = MulticlassAccuracy(num_labels, average="micro")
        self.loss = MeanMetric()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of one training step, unweighted, by name. A later step may begin with the state it leaves."""
        frames, labels, lengths = batch
        pictures = augment(frames, self.recipe.input.height, self.recipe.input.width, self.recipe.augmentation)
        pictures, targets = self._mix(pictures, F.one_hot(labels, len(self.class_weights)).float())
        state, carried = self._begin(frames)
        now_targets, so_far_targets = self._targets(pictures, targets, lengths)
        embedded = self.network.embed(pictures, state).float()
        with self.float32():  # sums over time stay in float32
            now, so_far, encoded, state = self.network.unroll(embedded, lengths, state)
            self.carried = self.network.remember(pictures, lengths, state).detach()
            losses = {"now": self._now_loss(now, now_targets, lengths)}
            if not carried:  # the targets know nothing of what the state has seen before
                losses["so_far"] = self._so_far_loss(so_far, so_far_targets, lengths)
            if self.forecaster:
                losses["forecast"] = self._forecast_loss(self.forecaster, embedded, encoded)
        return losses

    def learn(self, batch: Batch) -> Tensor:
        settings = self.recipe.optimisation
        weights = {"now": settings.now_weight, "so_far": 1.0, "forecast": settings.forecast_weight}
        losses = self.losses(batch)
        self.log_dict({f"train_{name}_loss": loss for name, loss in losses.items()})
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        frames, labels, lengths = batch
        last = (lengths - 1).unsqueeze(1)
        truth = labels.gather(1, last).squeeze(1)
        with self.float32():
            logits = self.averaged(frames, lengths)
        self.accuracy.update(logits, truth)
        self.loss.update(F.cross_entropy(logits, truth), len(frames))
        self.log("val_loss", self.loss)
        self.log("val_accuracy", self.accuracy, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        rank = self.accuracy.compute() - LOSS_IN_RANK * self.loss.compute()
        self.log(RANK, rank, sync_dist=True)

    def _mix(self, pictures: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """pictures (B,T,3,H,W), targets (B,T,K) -> the same, with clips mixed in pairs (mixup) and targets smoothed."""
        alpha = self.recipe.augmentation.mixup
        if alpha:
            share = float(torch.distributions.Beta(alpha, alpha).sample())
            pictures = torch.lerp(pictures.flip(0), pictures, share)
            targets = torch.lerp(targets.flip(0), targets, share)
        smoothing = self.recipe.optimisation.label_smoothing
        return pictures, targets * (1 - smoothing) + smoothing / targets.shape[2]

    def _targets(self, pictures: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """pictures (B,T,3,H,W), labels (B,T,K) of each step -> the targets of `now` and `so_far` (B,T,K)."""
        num_steps = torch.arange(1, labels.shape[1] + 1, device=labels.device)
        means = labels.cumsum(1) / num_steps.reshape(1, -1, 1)
        if self.teachers is None:
            return labels, means
        now, so_far = self.teachers(pictures, lengths)
        weight = self.recipe.optimisation.teacher_weight
        return torch.lerp(labels, now, weight), torch.lerp(means, so_far, weight)

    def _begin(self, frames: Tensor) -> tuple[Tensor, bool]:
        """The state (B,S) to start from, and whether other clips left it."""
        batch_size, height, width = frames.shape[0], frames.shape[2], frames.shape[3]
        # Drawn even if nothing is carried yet, as at the start of a resumed run, so that later draws stay the same.
        go_on = torch.rand(()) < self.recipe.optimisation.carry_share
        if go_on and self.carried is not None:
            return self.carried[torch.randint(len(self.carried), (batch_size,))], True
        return self.network.initial_state(batch_size, height, width).to(frames.device), False

    def _now_loss(self, now: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """now (B,T,K) against the targets (B,T,K) of each step; all valid steps count alike."""
        valid = valid_steps(now.shape[1], lengths).float()
        return (self._cross_entropy(now, targets) * valid).sum() / valid.sum()

    def _so_far_loss(self, so_far: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """so_far (B,T,K) against the targets (B,T,K) of all up to each step; later steps count more."""
        steps = torch.arange(1, so_far.shape[1] + 1, device=so_far.device, dtype=torch.float32)
        weights = torch.where(steps <= lengths.unsqueeze(1), steps, 0.0)
        weights = weights / weights.sum(1, keepdim=True)
        return (self._cross_entropy(so_far, targets) * weights).sum(1).mean()

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """logits, targets (B,T,K) -> (B,T)."""
        return -(self.class_weights * targets * logits.log_softmax(2)).sum(2)

    def _forecast_loss(self, forecaster: ForecastDecoder, embedded: Tensor, encoded: Tensor) -> Tensor:
        """How far the second half of the embedded frames is from its forecast at the middle of the clip."""
        middle = embedded.shape[1] // 2
        forecast = forecaster(encoded[:, middle - 1], embedded.shape[1] - middle)
        return F.smooth_l1_loss(forecast, embedded[:, middle:].detach())
