"""Learning to classify sound: one training step and one validation."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from trainer.metrics import macro_recall
from trainer.networks.log_mel import LogMel
from trainer.networks.recurrent import Cell
from trainer.networks.sound_classifier import SoundClassifier
from trainer.recipe.listen import ListenRecipe
from trainer.tasks.class_weights import class_weights
from trainer.tasks.learner import LOSS_IN_RANK, Learner
from trainer.tasks.sound_augment import augment, mix
from trainer.tasks.teachers import ListeningTeachers
from trainer.tasks.waveforms import Batch, PartsBatch, mean_logits


class ListenTask(Learner[SoundClassifier]):
    """A SoundClassifier that learns from labelled sounds whose log-mel spectrograms are changed at random."""

    class_weights: Tensor

    def __init__(
        self, recipe: ListenRecipe, cell: Cell, label_counts: Sequence[int], teachers: ListeningTeachers | None = None
    ) -> None:
        """`label_counts[i]`: how many training sounds are of label i."""
        num_labels = len(label_counts)
        super().__init__(SoundClassifier(num_labels, cell, recipe.network), recipe.optimisation)
        self.recipe = recipe
        self.num_labels = num_labels
        self.teachers = teachers
        weights = class_weights(recipe.optimisation.class_weights, label_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.front_end = LogMel().float()  # double precision would differ by less than the augmentation
        self.judged: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        """Logits, lengths, labels and places of the parts that were heard in this validation."""

    def learn(self, batch: Batch) -> Tensor:
        waveform, lengths, labels = batch
        with torch.no_grad():
            log_mel, steps = self.network.trim(*self.front_end.whole(waveform, lengths))
            log_mel, steps = augment(log_mel, steps, self.recipe.augmentation)
            targets = F.one_hot(labels, self.num_labels).float()
            log_mel, steps, targets = mix(log_mel, steps, targets, self.recipe.augmentation.mixup)
            settings = self.recipe.optimisation
            targets = targets * (1 - settings.label_smoothing) + settings.label_smoothing / self.num_labels
            if self.teachers is not None:
                targets = torch.lerp(targets, self.teachers(log_mel, steps), settings.teacher_weight)
        return F.cross_entropy(self.network.classify(log_mel, steps), targets, self.class_weights)

    def validation_step(self, batch: PartsBatch, batch_index: int) -> None:
        waveform, *others = batch
        with self.float32():
            self.judged.append((self.averaged(waveform, others[0]), *others))

    def on_validation_epoch_end(self) -> None:
        heard, lengths, part_labels, places = map(torch.cat, zip(*self.judged, strict=True))
        self.judged = []
        logits = mean_logits(heard, lengths, places)
        labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device).index_copy_(0, places, part_labels)
        loss = F.cross_entropy(logits, labels)
        recall = macro_recall(multiclass_confusion_matrix(logits, labels, self.num_labels).cpu().numpy())
        self.log("val_loss", loss)
        self.log("val_macro_recall", recall, prog_bar=True)
        self.log("val_rank", recall - LOSS_IN_RANK * loss)
