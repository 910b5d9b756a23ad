"""The recipe of a classifier of camera work and edits."""

from typing import Literal

from pydantic import Field

from trainer.recipe.sections import Optimisation, Recipe, Section, Share, Size


class Input(Section):
    """What the model is fed, in training and by the service."""

    scenes: Literal["camera"]
    """Generated: trainer.data.scenes. What a recipe for labelled videos does not have."""
    width: Size
    """Pixels; the grid of cells wants multiples of 64 by 48."""
    height: Size
    rate: float = Field(ge=8, le=30)
    """Frames per second."""
    delay_steps: int = Field(ge=0, le=12)
    """Steps between a moment and the answer about it: what came after tells a cut from a flash."""


class Stills(Section):
    """What scenes are made of."""

    width: Size
    """Pixels; larger than the input's by as much as zooming in shall not blur. The same shape as the input's."""
    height: Size
    per_video: int = Field(ge=1, le=64)
    """Frames taken of each video, spread over it."""


class Network(Section):
    """The sizes of a CameraClassifier."""

    memory: Literal["cell", "none"] = "cell"
    """none: each frame on its own, to see what memory is worth."""
    num_channels: tuple[Size, ...] = Field(min_length=2)
    """Of the convolutions; each halves the picture."""
    mixed_channels: Size
    """Of the map that convolutions and measured motion are brought together in."""
    lag: int = Field(ge=2, le=12)
    """Steps to the second frame that each one is compared with: slow motion shows there."""
    size: Size
    """Of embedded steps and of the recurrence's hidden state."""
    dropout: Share


class Sampling(Section):
    clip_length: int = Field(ge=8)
    """Steps of a training scene."""
    scenes_per_epoch: int = Field(ge=1)
    validation_scenes: int = Field(ge=1)
    """Made of other videos than those of training."""
    carry_share: Share
    """Chance that a step starts from a state left by other scenes, as moments late in a long video do."""


class CameraOptimisation(Optimisation):
    """And the losses it follows."""

    cut_weight: float = Field(gt=0)
    """Of a cut against any other label: it lasts one step."""
    speed_weight: float = Field(ge=0)
    """Of telling how fast the camera moves, against 1 for the labels."""


class CameraRecipe(Recipe):
    input: Input
    stills: Stills
    network: Network
    sampling: Sampling
    optimisation: CameraOptimisation
