"""The recipe of a classifier of video."""

from typing import Literal, Self

from pydantic import Field, model_validator

from app.media.request import Fit
from trainer.recipe.sections import ClassifierOptimisation, Recipe, Section, Share, Size


class Input(Section):
    """What the model is fed, in training and by the service."""

    width: Size
    """Pixels."""
    height: Size
    fit: Fit = "stretch"
    clip_length: int = Field(ge=1, le=1024)
    """Frames spread over a whole video for its label."""
    rate: float = Field(gt=0, le=120)
    """Frames per second of timelines."""


class Cache(Section):
    """What the cache keeps of each video for training clips."""

    width: Size
    """Pixels; larger than the input, so that random crops do not blur."""
    height: Size
    rate: float = Field(gt=0, le=120)
    """Frames per second: the finest temporal jitter."""


class Network(Section):
    """The sizes of a VideoClassifier."""

    recurrence: Literal["cell", "none"] = "cell"
    """none: a mean over time instead, to see what the recurrence is worth."""
    num_channels: tuple[Size, ...] = Field(min_length=1)
    """Of the frame encoder's stages; each halves the picture."""
    blocks_per_stage: int = Field(ge=0)
    """Residual convolutions after each stage but the first."""
    pooling: Literal["mean", "mean_max"] = "mean"
    """Of the last stage over the picture. mean_max also finds small things, such as one moving shape."""
    size: Size
    """Of embedded frames and of the recurrences' hidden states."""
    num_heads: int = Field(ge=1)
    """Of the attention over time."""
    differences: bool = True
    """Whether each frame comes with its change in brightness since the one before."""
    dropout: Share = 0.3

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.size % self.num_heads:
            raise ValueError(f"num_heads must divide size, {self.size}")
        return self


class Sampling(Section):
    """How training clips are drawn. Those that are of no other share spread over whole videos."""

    clip_length: int = Field(ge=2)
    """Frames in a training clip. Fewer than are served cost less, and the recurrence copes."""
    rate_share: Share
    """Share of clips like those of timelines: a frame every 1/rate seconds, from anywhere in the video."""
    splice_share: Share
    """Share of clips made of two such clips of different videos, one after the other, each with its label."""
    key_share: Share = 0.0
    """Share of clips that spread over whole videos, but of a few frames at regular distances, of which some repeat: as
    `sampling=fast` takes key frames. Above 0, the version says that it is `trained_for_key_frames`."""
    rate_jitter: float = Field(ge=1)
    """A clip's rate is drawn from [rate/jitter, rate*jitter], log-uniform; 1: none."""

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        if self.rate_share + self.splice_share + self.key_share > 1:
            raise ValueError("rate_share, splice_share and key_share together exceed 1")
        return self


class Augmentation(Section):
    """Ranges of random changes to a clip, the same for all of its frames."""

    min_area: float = Field(gt=0, le=1)
    """Share of the picture covered by the smallest crop; 1: no crops."""
    max_aspect: float = Field(ge=1)
    """A crop's aspect ratio is the picture's times 1/max to max."""
    flip: Share
    """Chance of a mirror image; 0 where left and right are labels."""
    brightness: Share
    """Gain drawn from 1 ± this, like contrast, about the clip's mean, and saturation."""
    contrast: Share
    saturation: Share
    tint: Share
    """Gain of each colour channel, drawn from 1 ± this."""
    grey: Share
    """Chance that all colour is removed."""
    erase: Share
    """Chance that a rectangle, up to half as wide and high as the picture, is grey in all frames."""
    mixup: float = Field(ge=0)
    """alpha of the Beta(alpha, alpha) that two clips are blended by (Zhang et al. 2017); 0: no mixup."""


class ClassifyOptimisation(ClassifierOptimisation):
    """Adds the weights of the losses."""

    now_weight: float = Field(ge=0)
    """Weight of the loss for each moment's own label, against 1 for everything so far."""
    forecast_weight: float = Field(ge=0)
    """Weight of the loss of the second decoder, which forecasts embedded frames; 0: no such decoder."""
    carry_share: Share
    """Chance that a step starts from a state left by other clips, like moments late in a long video."""


class ClassifyRecipe(Recipe):
    input: Input
    cache: Cache
    network: Network
    sampling: Sampling
    augmentation: Augmentation
    optimisation: ClassifyOptimisation
