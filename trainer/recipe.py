"""What a training run is made of: a YAML file plus `--set section.key=value`. A key that does not exist is an error."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.media.request import Fit

RECIPES = Path(__file__).parent / "recipes"

Share = Annotated[float, Field(ge=0, le=1)]
"""A chance or a part of the whole."""
Size = Annotated[int, Field(ge=1, le=4096)]


class RecipeError(ValueError):
    """A recipe or an override that cannot be read, in words for the person who wrote it."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Section):
    """What the model is fed, in training and by the service."""

    width: Size
    """Pixels."""
    height: Size
    fit: Fit = "stretch"
    clip_length: int = Field(ge=1, le=1024)
    """Frames spread over a whole video for its label."""
    rate: float = Field(gt=0, le=120)
    """Frames per second of timelines."""


class Cache(_Section):
    """What is kept of each video for training clips."""

    width: Size
    """Pixels; larger than the input's by as much as random crops shall not blur."""
    height: Size
    rate: float = Field(gt=0, le=120)
    """Frames per second: the finest temporal jitter."""


class Network(_Section):
    """The sizes of a VideoClassifier."""

    recurrence: Literal["cell", "none"] = "cell"
    """none: a mean over time in its place, to see what the recurrence is worth."""
    num_channels: tuple[Size, ...] = Field(min_length=1)
    """Of the frame encoder's stages; each halves the picture."""
    blocks_per_stage: int = Field(ge=0)
    """Residual convolutions after each stage but the first."""
    pooling: Literal["mean", "mean_max"] = "mean"
    """Of the last stage over the picture. mean_max also finds what is small, such as one moving shape."""
    size: Size
    """Of embedded frames and of the recurrences' hidden states."""
    num_heads: int = Field(ge=1)
    """Of the attention over time."""
    differences: bool = True
    """Whether a frame comes with its change of brightness since the one before."""
    dropout: Share = 0.3


class Sampling(_Section):
    """How training clips are drawn. What `rate_share` and `splice_share` leave is spread over whole videos."""

    clip_length: int = Field(ge=2)
    """Frames in a training clip; fewer than are served cost less and the recurrence does not mind."""
    rate_share: Share
    """Clips as timelines have them: a frame every 1/rate seconds, from anywhere in the video."""
    splice_share: Share
    """Two rate clips of different videos, one after the other, the labels following."""
    rate_jitter: float = Field(ge=1)
    """A clip's rate is drawn from [rate/jitter, rate*jitter], log-uniform; 1: none."""

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        if self.rate_share + self.splice_share > 1:
            raise ValueError("rate_share and splice_share together exceed 1")
        return self


class Augmentation(_Section):
    """Ranges of random changes to a clip, one draw for all of its frames."""

    min_area: float = Field(gt=0, le=1)
    """Share of the picture that the smallest crop covers; 1: no crops."""
    max_aspect: float = Field(ge=1)
    """A crop's aspect ratio is the picture's times 1/max to max."""
    flip: Share
    """Chance of a mirror image; 0 where left and right are labels."""
    brightness: Share
    """Gain drawn from 1 ± this; so are contrast, about the clip's mean, and saturation."""
    contrast: Share
    saturation: Share
    tint: Share
    """Gain of each colour channel, drawn from 1 ± this."""
    grey: Share
    """Chance that all colour goes."""
    erase: Share
    """Chance that a rectangle, up to half as wide and high as the picture, is grey in all frames."""
    mixup: float = Field(ge=0)
    """alpha of the Beta(alpha, alpha) that two clips are blended by (Zhang et al. 2017); 0: no mixup."""


class Optimisation(_Section):
    """AdamW with warm-up and cosine decay, and the loss it follows."""

    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    """On matrices and kernels only."""
    warmup: Share
    """Share of all steps over which the learning rate rises from 0."""
    max_gradient_norm: float = Field(gt=0)
    ema_decay: float = Field(ge=0, lt=1)
    """Of the averaged weights, which are what is published; 0: the last weights."""
    label_smoothing: Share
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: each class counts alike, however many videos it has."""
    now_weight: float = Field(ge=0)
    """Of the loss of each moment's own label, against 1 for that of all so far."""
    forecast_weight: float = Field(ge=0)
    """Of the loss of the second decoder, which forecasts embedded frames; 0: there is none."""
    carry_share: Share
    """Chance that a step starts from a state left by other clips, as moments late in a long video do."""


class Budget(_Section):
    """How long it takes."""

    num_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations, which cost as much as some epochs do."""
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    """auto: bfloat16 where the machine multiplies it, else float32."""


class Recipe(_Section):
    """One training run, but for its data, cell and seed."""

    input: Input
    cache: Cache
    network: Network
    sampling: Sampling
    augmentation: Augmentation
    optimisation: Optimisation
    budget: Budget


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path`, changed by overrides such as `optimisation.learning_rate=1e-3`, the value read as YAML.

    Raises RecipeError, or OSError where the file cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path.name} is not a table of sections")
    for override in overrides:
        _set(content, override)
    try:
        # A number as YAML 1.1 has it needs a dot: 1e-3 comes as a string, which pydantic turns into a float.
        return Recipe.model_validate(content)
    except ValueError as error:
        raise RecipeError(f"{path.name}: {error}") from error


def _set(content: dict[str, object], override: str) -> None:
    """Puts `section.key=value` into the content, in place. Whether the key may exist is for the Recipe to say."""
    target, equals, value = override.partition("=")
    section, dot, key = target.strip().partition(".")
    if not (equals and dot and key):
        raise RecipeError(f"{override} is not of the form section.key=value")
    table = content.setdefault(section, {})
    if not isinstance(table, dict):
        raise RecipeError(f"{section} is not a section")
    try:
        table[key] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"{override}: the value is not YAML") from error
