"""Learning to classify how things move: one training step and one validation."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from trainer.networks.flow_classifier import FlowClassifier
from trainer.networks.recurrent import Cell
from trainer.progress import progress
from trainer.recipe.flow import FlowRecipe
from trainer.tasks.class_weights import class_weights
from trainer.tasks.learner import LOSS_IN_RANK, Learner

CHUNK_STEPS = 64
"""Steps that are measured or answered at once, so that memory does not grow with the video."""

Batch = tuple[Tensor, Tensor, Tensor]
"""measured steps (B,T,·), lengths (B,), labels (B,)."""


class FlowTask(Learner[FlowClassifier]):
    """A FlowClassifier that learns from measured steps."""

    class_weights: Tensor

    def __init__(self, recipe: FlowRecipe, cell: Cell, label_counts: Sequence[int]) -> None:
        """`label_counts[i]`: how many training videos are of label i."""
        shape, num_labels = recipe.input, len(label_counts)
        super().__init__(
            FlowClassifier(num_labels, shape.width, shape.height, cell, recipe.network), recipe.optimisation
        )
        self.label_smoothing = recipe.optimisation.label_smoothing
        weights = class_weights(recipe.optimisation.class_weights, label_counts)
        self.register_buffer("class_weights", weights, persistent=False)
        self.accuracy = MulticlassAccuracy(num_labels, average="micro")
        self.loss = MeanMetric()

    def learn(self, batch: Batch) -> Tensor:
        steps, lengths, labels = batch
        logits = self._answer(self.network, steps, lengths)
        return F.cross_entropy(logits, labels, self.class_weights, label_smoothing=self.label_smoothing)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        steps, lengths, labels = batch
        logits = self._answer(self.averaged, steps, lengths)
        self.accuracy.update(logits, labels)
        self.loss.update(F.cross_entropy(logits, labels), len(labels))
        self.log("val_loss", self.loss)
        self.log("val_accuracy", self.accuracy, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.log("val_rank", self.accuracy.compute() - LOSS_IN_RANK * self.loss.compute(), sync_dist=True)

    def _answer(self, network: FlowClassifier, steps: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B,K) after all of each row's steps."""
        state = network.initial_state(len(steps), 0, 0).to(steps.device)
        with self.float32():
            _, so_far, _ = network.unroll(steps, lengths, state)
        return so_far[torch.arange(len(lengths), device=lengths.device), lengths - 1]


class MeasuredVideos(Dataset[tuple[Tensor, int]]):
    """Steps (T,·) of videos or of their mirror images, and labels; in training a random part of them.

    Item `epoch * len(self) + index` depends on the seed and that number alone.
    """

    def __init__(
        self, videos: Sequence[tuple[Tensor, Tensor]], labels: Sequence[int], recipe: FlowRecipe, seed: int | None
    ) -> None:
        """`videos`: steps as they are, and mirrored. Without a `seed`, each video is taken whole and as it is."""
        self.videos, self.labels, self.sampling, self.seed = videos, labels, recipe.sampling, seed
        self.shortest = max(1, round(recipe.sampling.shortest_seconds * recipe.input.rate))
        self.longest = max(1, round(recipe.sampling.longest_seconds * recipe.input.rate))

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, draw: int) -> tuple[Tensor, int]:
        index = draw % len(self.videos)
        straight, mirrored = self.videos[index]
        if self.seed is None:
            return straight, self.labels[index]
        generator = np.random.default_rng((self.seed, draw))
        steps = mirrored if generator.random() < self.sampling.flip else straight
        length = self.longest
        if generator.random() < 0.5:
            length = int(generator.integers(self.shortest, self.longest + 1))
        start = int(generator.integers(max(0, len(steps) - length) + 1))
        return steps[start : start + length], self.labels[index]


def collate(items: Sequence[tuple[Tensor, int]]) -> Batch:
    """Steps of any lengths, padded with zeros."""
    lengths = torch.tensor([len(steps) for steps, _ in items])
    steps = torch.nn.utils.rnn.pad_sequence([steps for steps, _ in items], batch_first=True)
    return steps, lengths, torch.tensor([label for _, label in items])


def measure_all(
    network: FlowClassifier, videos: Sequence[NDArray[np.uint8]], mirrored: bool
) -> list[tuple[Tensor, Tensor]]:
    """The steps (T,·) of each video (T,H,W,3), and those of its mirror image (without `mirrored`, of itself again)."""
    found = []
    for frames in progress(videos, len(videos), "measuring motion"):
        straight = measure(network, frames)
        found.append((straight, measure(network, frames[:, :, ::-1]) if mirrored else straight))
    return found


@torch.inference_mode()
def measure(network: FlowClassifier, frames: NDArray[np.uint8]) -> Tensor:
    """frames (T,H,W,3) -> their steps (T,·)."""
    steps, state = [], network.initial_state(1, *frames.shape[1:3])
    for start in range(0, len(frames), CHUNK_STEPS):
        chunk = torch.from_numpy(frames[start : start + CHUNK_STEPS].copy()).unsqueeze(0)
        lengths = torch.tensor([chunk.shape[1]])
        told, boundaries = network.measure(chunk, lengths, state)
        steps.append(told[0])
        *before, num_seen, _ = torch.split(state, network.state_sizes, dim=1)
        state = torch.cat((*before, num_seen + chunk.shape[1], boundaries), dim=1)
    return torch.cat(steps)
