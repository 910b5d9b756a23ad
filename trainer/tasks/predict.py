"""Learning to forecast video: one training step and one validation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.networks.forecaster import Forecaster
from trainer.networks.recurrent import Cell
from trainer.recipe.predict import PredictRecipe
from trainer.tasks.learner import RANK, Learner
from trainer.tasks.similarity import structural_similarity

SHORTEST, LONGEST_SHORT = 3, 6
"""Observed frames in a short training step."""


def build_forecaster(recipe: PredictRecipe, cell: Cell) -> Forecaster:
    """The network of a recipe."""
    sizes = recipe.network
    painted = sizes.made_of == "paint"
    return Forecaster(cell, painted, sizes.num_features, sizes.quarter_size, sizes.eighth_size)


class PredictTask(Learner[Forecaster]):
    """A Forecaster and how it is trained; batches are frames (B,T,H,W,3) uint8, observed ++ to come."""

    def __init__(self, recipe: PredictRecipe, cell: Cell) -> None:
        super().__init__(build_forecaster(recipe, cell), recipe.optimisation)
        self.recipe = recipe
        self.settings = recipe.optimisation

    def learn(self, batch: Tensor) -> Tensor:
        num_observed, horizon = self._draw_lengths()
        begin = self.recipe.input.num_observed - num_observed
        pictures = self.network.pictures(batch[:, begin : self.recipe.input.num_observed + horizon])
        forecast = self.network.unroll(pictures[:, :num_observed], horizon)
        with self.float32():
            losses = self.losses(forecast.float(), pictures[:, num_observed:])  # (horizon,)
        weights = torch.ones_like(losses)
        weights[0] = self.settings.first_weight
        return (losses * weights).sum() / weights.sum()

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        num_observed = self.recipe.input.num_observed
        frames, truth = batch[:, :num_observed], batch[:, num_observed:]
        lengths = torch.full((len(batch),), num_observed, device=batch.device)
        with self.float32():
            forecast = self.averaged(frames, lengths, truth.shape[1])
            pictures = self.network.pictures(truth)[..., : truth.shape[2], : truth.shape[3]]
            forecast = forecast.permute(0, 1, 4, 2, 3)[:, :, : pictures.shape[2]]
            self.log("val_loss", self.losses(forecast, pictures).mean(), batch_size=len(batch), sync_dist=True)
            squared = (forecast - pictures).square().sum(dim=(3, 4)).mean()
        self.log("val_squared_error", squared, batch_size=len(batch), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self.log(RANK, -self.trainer.callback_metrics["val_loss"])

    def losses(self, forecast: Tensor, truth: Tensor) -> Tensor:
        """forecast, truth (B,T,C,H,W) in [0,1] -> the loss of each step ahead (T,)."""
        if self.recipe.network.made_of == "paint":
            squared = (forecast - truth).square().mean(dim=(0, 2, 3, 4))
            # A tenth of cross-entropy: its gradient lasts where a pixel is so surely wrong that squared error has none.
            entropy = F.binary_cross_entropy(forecast.clamp(1e-4, 1 - 1e-4), truth, reduction="none")
            return 40.0 * squared + 0.1 * entropy.mean(dim=(0, 2, 3, 4))
        squared = (forecast - truth).square().mean(dim=(2, 3, 4))  # (B,T)
        similarity = structural_similarity(forecast.flatten(0, 1), truth.flatten(0, 1)).reshape(squared.shape)
        # With the logarithm, as in PSNR, clips that move little count as much as those that move a lot.
        return (0.12 * torch.log(squared + 2e-5) + 1.0 - similarity).mean(dim=0)

    def _draw_lengths(self) -> tuple[int, int]:
        """How many frames this step observes, and how many it forecasts."""
        num_observed = self.recipe.input.num_observed
        if torch.rand(()) < self.settings.short_share:
            num_observed = min(num_observed, int(torch.randint(SHORTEST, LONGEST_SHORT + 1, ())))
        done = self.global_step / max(
            1.0, self.settings.horizon_growth * float(self.trainer.estimated_stepping_batches)
        )
        return num_observed, min(self.settings.horizon, 1 + int(done * self.settings.horizon))
