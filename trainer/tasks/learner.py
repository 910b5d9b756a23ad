"""What all trainings share: AdamW or Muon, warm-up and cosine schedule, clipped gradients, averaged weights."""

import copy
import math
import sys
from abc import abstractmethod
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from app.models import torchscript
from trainer.recipe.reading import RecipeError
from trainer.recipe.sections import Optimisation

RANK = "val_rank"
"""What a learner logs for the best epoch to be chosen by."""
LOSS_IN_RANK = 1e-3
"""A classifier's best epoch is the one with the highest accuracy; among equals the loss decides. The loss alone will
not do: where there is little to learn from, it is lowest for a network that has learnt nothing and says 50 %."""
TOLD_NAMES = 6
"""How many tensors are named that another model's weights do not fit."""

N = TypeVar("N", bound=nn.Module)


class Learner(lightning.LightningModule, Generic[N]):
    """A network, how it is trained, and the average of its weights, which is validated and published.

    A subclass gives `learn` and `validation_step`, which logs `val_loss` and other figures named `val_…`. One of them
    is `val_rank`: where training may stop early, the epoch with the highest is the best.
    """

    def __init__(self, network: N, optimisation: Optimisation) -> None:
        super().__init__()
        self.optimisation = optimisation
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False)

    def on_fit_start(self) -> None:
        """Keeps the seed that torch was given when the run began."""
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Any, batch_index: int) -> None:
        """Makes an epoch's random draws depend on seed, epoch and process alone.

        So a resumed run draws the same as one that went through, and no two processes augment alike. The start of the
        epoch would be the wrong place: the loader draws after it or, when a run is resumed, before it.
        """
        if batch_index == 0:
            drawn = np.random.SeedSequence((self._seed, self.current_epoch, self.global_rank))
            torch.manual_seed(int(drawn.generate_state(1)[0]))

    @abstractmethod
    def learn(self, batch: Any) -> Tensor:
        """The loss of a batch."""

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        with self.device:  # random numbers for a batch are drawn on the device of the batch
            return self.learn(batch)

    def float32(self) -> torch.autocast:
        """A context without bfloat16: for sums over time, and for validation, since the service answers in float32."""
        return torch.autocast(self.device.type, enabled=False)

    def start_from(self, model: Path) -> None:
        """Takes the weights of a `model.pt` that fit by name and shape, and tells which do not.

        Raises OSError, and RecipeError for a file of anything else or where none fits.
        """
        own = self.network.state_dict()
        try:
            found = torchscript.weights(model.read_bytes())
        except torchscript.RUN_ERRORS as error:
            raise RecipeError(f"{model} is not a model") from error
        fitting = {name: weight for name, weight in found.items() if name in own and own[name].shape == weight.shape}
        if not any(weight.ndim > 1 for weight in fitting.values()):  # counters of batches always fit
            raise RecipeError(f"{model} has no weights that fit this network")
        for network in (self.network, self.averaged):
            network.load_state_dict(own | fitting)
        others = [name for name in own if name not in fitting]
        told = f"; not: {', '.join(others[:TOLD_NAMES])}{', …' * (len(others) > TOLD_NAMES)}" if others else ""
        sys.stderr.write(f"{model}: {len(fitting)} of {len(own)} tensors taken{told}\n")

    def module(self) -> N:
        """The network to publish: averaged weights, in eval mode."""
        return copy.deepcopy(self.averaged).cpu().eval()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
        """Updates the average, strongly at first: else it would keep the noise of the first steps for long."""
        decay = min(self.optimisation.ema_decay, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            for average, current in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                average.lerp_(current, 1 - decay)
            for kept, latest in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
                kept.copy_(latest)  # means and variances of the pictures are averages already

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.optimisation
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if settings.optimizer == "muon":
            from pytorch_optimizer import Muon  # a second to import, of a hundred optimizers, for this one

            groups[0] |= {"use_muon": True, "use_adjusted_lr": True}  # as large as AdamW's steps: one rate for both
            groups[1] |= {"use_muon": False}
            optimizer: torch.optim.Optimizer = Muon([group | {"lr": settings.learning_rate} for group in groups])
        else:
            optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
        num_steps = int(self.trainer.estimated_stepping_batches)
        if not num_steps:
            raise RecipeError("there are fewer examples than one batch holds: try a lower budget.batch_size")
        num_warmup = max(1, round(settings.warmup * num_steps))

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / num_warmup)
            return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / num_steps)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips to the recipe's norm, whatever the Trainer was given, and logs what the norm was."""
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, self.optimisation.max_gradient_norm)
        self.log("gradient_norm", norm)
