"""The recipes of describers: of generated scenes, of which all is known, and of videos that people have described."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from app.media.request import Fit
from trainer.recipe.camera import Stills
from trainer.recipe.sections import Optimisation, Recipe, Section, Share, Size


class Writing(Section):
    """The sizes of a Describer, and how it searches."""

    size: Size
    """Of the hidden states of the recurrences that read and of the one that writes."""
    max_length: int = Field(ge=4, le=256)
    """Tokens of a comment at most."""
    length_penalty: float = Field(ge=0, le=2)
    """What the service asks for where the client does not, and what the figures are taken with."""


class CaptionOptimisation(Optimisation):
    """And the loss it follows."""

    label_smoothing: Share
    label_weight: float = Field(default=0.0, ge=0)
    """Of also telling, at each step, which labels hold there; 0: not, as where no one knows."""


class ScenesInput(Section):
    """What the model is fed, in training and by the service."""

    scenes: Literal["described"]
    """Generated: trainer.data.described_scenes. What a recipe for described videos does not have."""
    max_seconds: int = Field(ge=8, le=60)
    """Of video that it is shown at once. No less than the longest scene."""
    camera: Path
    """The `model.pt` of a CameraClassifier: what it says of each moment is what the sentences are made from."""


class SceneSampling(Section):
    train_scenes: int = Field(ge=1)
    validation_scenes: int = Field(ge=1)
    """Made of other videos than those of training."""
    test_scenes: int = Field(ge=1)
    """Made of others again."""
    part_share: Share
    """Chance that a part of a scene is learnt from in its place."""


class DescribeRecipe(Recipe):
    input: ScenesInput
    stills: Stills
    writing: Writing
    sampling: SceneSampling
    optimisation: CaptionOptimisation


class VideoInput(Section):
    """What the model is fed, in training and by the service."""

    width: Size
    """Pixels."""
    height: Size
    fit: Fit = "stretch"
    clip_length: int = Field(ge=1, le=1024)
    """Frames spread over a whole video."""
    rate: float = Field(gt=0, le=120)
    """Frames per second from which those of a shot are taken, for timelines."""


class Frames(Section):
    """The sizes of a FrameSteps."""

    num_channels: tuple[Size, ...] = Field(min_length=1)
    blocks_per_stage: int = Field(ge=0)
    size: Size
    dropout: Share


class Words(Section):
    least_count: int = Field(ge=1)
    """Of a word in the captions of the training videos, for it to be in the vocabulary."""


class CaptionRecipe(Recipe):
    input: VideoInput
    frames: Frames
    words: Words
    writing: Writing
    optimisation: CaptionOptimisation
