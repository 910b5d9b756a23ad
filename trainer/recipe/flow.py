"""The recipe of a classifier of how things move."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.media.request import Fit
from trainer.recipe.sections import ClassifierOptimisation, Recipe, Section, Share, Size


class Input(Section):
    """What the model is fed, in training and by the service."""

    sees: Literal["flow"]
    """What a recipe for classifiers of pictures does not have."""
    width: Size = Field(multiple_of=12)
    """Pixels."""
    height: Size = Field(multiple_of=12)
    fit: Fit = "stretch"
    rate: float = Field(ge=8, le=30)
    """Frames per second; with fewer, people move too far from one frame to the next."""


class Network(Section):
    """The sizes of a FlowClassifier."""

    recurrence: Literal["cell", "none"] = "cell"
    """none: a mean over time instead, to see what the recurrence is worth."""
    size: Size
    """Of embedded steps and of the recurrence's hidden state."""
    dropout: Share


class Sampling(Section):
    """Which parts of videos are trained on."""

    shortest_seconds: float = Field(gt=0)
    """Half of all parts have a length between this and `longest_seconds`; the others have the longest."""
    longest_seconds: float = Field(gt=0, le=60)
    flip: Share
    """Chance of a mirror image; 0 where left and right are labels."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.shortest_seconds > self.longest_seconds:
            raise ValueError("shortest_seconds exceeds longest_seconds")
        return self


class FlowRecipe(Recipe):
    input: Input
    network: Network
    sampling: Sampling
    optimisation: ClassifierOptimisation
