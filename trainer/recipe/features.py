"""The recipe of a describer of sound: an autoencoder that learns without labels."""

from typing import Literal

from pydantic import Field

from trainer.recipe.listen import Augmentation
from trainer.recipe.sections import Optimisation, Recipe, Section, Share, Size


class Input(Section):
    """What the model is fed, in training and by the service."""

    media: Literal["audio"]
    sample_rate: Literal[16_000]
    """Hz: that of the log-mel inside the module."""
    part_seconds: float = Field(gt=0, le=60)
    """Length of the parts that training takes from anywhere in a longer sound."""


class Network(Section):
    """The sizes of a SoundEncoder and of the decoder that teaches it."""

    num_channels: Size
    """Of the convolutions over time, which make steps of 40 ms out of log-mel frames of 10 ms."""
    size: Size
    """Of the hidden state of each of the two recurrences, which is that of a step's vector."""
    bottleneck: Size
    """All that the decoder is told of a sound."""
    num_components: Size
    """Values in the vector of a clip: principal components of the bottleneck and of all statistics."""
    dropout: Share


class FeaturesOptimisation(Optimisation):
    """And the losses it follows."""

    teacher_dropout: Share
    """Share of the steps that the decoder is not told before it has to go on."""
    contrast_weight: float = Field(ge=0)
    """Of telling two versions of one sound from all others, against 1 for reconstruction; 0: an autoencoder alone."""
    contrast_temperature: float = Field(gt=0)


class FeaturesRecipe(Recipe):
    input: Input
    network: Network
    augmentation: Augmentation
    """Of two versions of each sound: from either one, the other is reconstructed."""
    optimisation: FeaturesOptimisation
