"""Learning to describe videos: one training step and one validation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from trainer.networks.describer import PAD, Describer
from trainer.recipe.caption import CaptionOptimisation
from trainer.tasks.learner import RANK, Learner
from trainer.tasks.scene_comments import Batch


class CaptionTask(Learner[Describer]):
    """A Describer that learns to write given sentences word by word. If it gets frames, its steps are trained too.

    Where the labels of each step are known, its memory must tell them: from sentences alone it learns much more slowly
    what to look for.
    """

    def __init__(self, network: Describer, settings: CaptionOptimisation, max_length: int, num_labels: int = 0) -> None:
        super().__init__(network, settings)
        self.settings = settings
        self.max_length = max_length
        self.labels = nn.Linear(2 * network.size, num_labels) if num_labels else None
        self.loss = MeanMetric()
        self.exact = MeanMetric()

    def learn(self, batch: Batch) -> Tensor:
        inputs, lengths, tokens, labels = batch
        shares, memory = self.network.teach(self._steps(self.network, inputs, lengths), lengths, tokens[:, :-1])
        loss = self._loss(shares, tokens, self.settings.label_smoothing)
        if self.labels is None:
            return loss
        told = F.binary_cross_entropy_with_logits(self.labels(memory), labels.clamp(min=0.0), reduction="none")
        known = labels >= 0
        return loss + self.settings.label_weight * (told * known).sum() / known.sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        inputs, lengths, tokens, _ = batch
        with self.float32():
            steps = self._steps(self.averaged, inputs, lengths)
            loss = self._loss(self.averaged.teach(steps, lengths, tokens[:, :-1])[0], tokens, 0.0)
            written = self.averaged.search(steps, lengths, 1, self.max_length, 0.0)[0][:, 0]  # (B,max_length)
        wanted = F.pad(tokens[:, 1:], (0, max(0, self.max_length - tokens.shape[1] + 1)), value=PAD)
        self.loss.update(loss, len(tokens))
        self.exact.update((written == wanted[:, : self.max_length]).all(dim=1).float())
        self.log("val_loss", self.loss)
        self.log("val_exact_match", self.exact, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.log(RANK, -self.loss.compute(), sync_dist=True)

    def _steps(self, network: Describer, inputs: Tensor, lengths: Tensor) -> Tensor:
        steps: Tensor = network.steps(inputs, lengths) if inputs.dtype == torch.uint8 else inputs
        return steps

    def _loss(self, shares: Tensor, tokens: Tensor, smoothing: float) -> Tensor:
        """Cross-entropy of log shares (B,L,V) against the tokens (B,L+1), shifted by one."""
        return F.cross_entropy(
            shares.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD, label_smoothing=smoothing
        )
