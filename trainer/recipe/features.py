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
    """Length of the parts that training takes from random places in longer sounds."""


class Network(Section):
    """The sizes of a SoundEncoder and of the decoder that teaches it."""

    num_channels: Size
    """Of the convolutions over time, which make steps of 40 ms out of log-mel frames of 10 ms."""
    size: Size
    """Of the hidden state of each of the two recurrences, and so of a step's vector."""
    bottleneck: Size
    """Size of all that the decoder is told about a sound."""
    num_components: Size
    """Values in the vector of a clip: principal components of the bottleneck and of all statistics."""
    dropout: Share


class FeaturesOptimisation(Optimisation):
    """Adds the settings of the losses."""

    teacher_dropout: Share
    """Share of the true steps that are hidden from the decoder as it goes on."""
    contrast_weight: float = Field(ge=0)
    """Weight of telling two versions of a sound from others, against 1 for reconstruction; 0: an autoencoder alone."""
    contrast_temperature: float = Field(gt=0)


class FeaturesRecipe(Recipe):
    input: Input
    network: Network
    augmentation: Augmentation
    """Makes two versions of each sound; either one is reconstructed from the other."""
    optimisation: FeaturesOptimisation
