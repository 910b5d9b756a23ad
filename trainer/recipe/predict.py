"""The recipe of a forecaster of video."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.recipe.sections import Optimisation, Recipe, Section, Share, Size


class Input(Section):
    """What the model is fed, in training and by the service."""

    side: Size
    """Pixels: the longest side of a video, or the width and height of Moving MNIST."""
    rate: float = Field(gt=0, le=120)
    """Frames per second."""
    num_observed: int = Field(ge=2, le=64)
    """Frames before the first that is forecast."""
    max_horizon: int = Field(ge=1, le=120)
    """Frames the service may be asked for at once."""


class Network(Section):
    """The sizes of a Forecaster."""

    made_of: Literal["last_frame", "paint"]
    """What forecasts are made of. last_frame: for real video, in colour; paint: for bright things on black, in grey."""
    num_features: Size
    """Of a picture, at a quarter of its size; for real video, as many again of its motion."""
    quarter_size: Size
    """Of the recurrence at a quarter of the picture's size."""
    eighth_size: Size

    @model_validator(mode="after")
    def _can_be_added(self) -> Self:
        if self.made_of == "paint" and self.num_features != self.quarter_size:
            raise ValueError("with made_of=paint, num_features and quarter_size must be the same: the two are added")
        return self


class Sampling(Section):
    """How training clips are drawn."""

    clips_per_epoch: int = Field(ge=1)
    num_drawn_to_validate: int = Field(default=200, ge=1)
    """For Moving MNIST only; with videos, all that are held back are used."""
    crop: Size
    """Pixels, a multiple of 8: width and height of what is cut from a video."""
    shrink_share: Share
    """Share of clips cut from a shrunk picture, so that the crop shows most of it."""
    flip: Share
    """Chance of a mirror image."""
    reverse: Share
    """Chance that time runs backwards."""

    @model_validator(mode="after")
    def _of_eights(self) -> Self:
        if self.crop % 8:
            raise ValueError(f"crop must be a multiple of 8, not {self.crop}")
        return self


class PredictOptimisation(Optimisation):
    """Adds the settings of the loss."""

    horizon: int = Field(ge=1)
    """Frames forecast in training, at its end."""
    horizon_growth: Share
    """Share of all steps over which that number grows from 1: far frames teach nothing until near ones are right."""
    short_share: Share
    """Chance that a step observes only 3 to 6 frames, which costs less and is how a video begins."""
    first_weight: float = Field(gt=0)
    """Weight of the first frame's loss, against 1 for each later one."""


class PredictRecipe(Recipe):
    input: Input
    network: Network
    sampling: Sampling
    optimisation: PredictOptimisation
