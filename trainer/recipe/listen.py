"""The recipe of a classifier of sound."""

from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.recipe.sections import ClassifierOptimisation, Recipe, Section, Share, Size


class Input(Section):
    """What the model is fed, in training and by the service."""

    media: Literal["audio"]
    sample_rate: Literal[16_000]
    """Hz: that of the log-mel inside the module."""
    max_seconds: float = Field(gt=0, le=60)
    """Heard at once. Training takes a random part of a longer sound; evaluation judges all of its parts."""


class Network(Section):
    """The sizes of a SoundClassifier."""

    num_channels: tuple[Size, ...] = Field(min_length=1, max_length=5)
    """Of the convolutions; each halves the mels."""
    halve_time: int = Field(ge=0)
    """How many convolutions, from the first, also halve the number of steps: with 2, a step is 40 ms."""
    centred: bool
    """Whether each mel's mean over the sound is subtracted first. This removes what a microphone, a room or the level
    adds to all of it."""
    range_decibels: float = Field(default=0, ge=0)
    """Anything quieter than the loudest part by more than this is raised to this, since rooms and microphones differ
    there. 0: nothing is raised."""
    size: Size
    """Of embedded steps."""
    recurrent_size: Size
    """Of the hidden state, each way."""
    num_layers: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    """Of the attention over steps."""
    dropout: Share

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if (seen := self.size + 2 * self.recurrent_size) % self.num_heads:
            raise ValueError(f"num_heads must divide size and both ways of recurrent_size together, {seen}")
        return self


class Augmentation(Section):
    """Ranges of random changes to a log-mel spectrogram, one draw for a sound."""

    tempo: float = Field(ge=1)
    """Speed drawn from [1/tempo, tempo], log-uniform."""
    pitch: float = Field(ge=1)
    """All frequencies are multiplied by one factor from [1/pitch, pitch], log-uniform, for higher and lower voices."""
    gain_decibels: float = Field(ge=0)
    """Louder or quieter by up to this."""
    colour_decibels: float = Field(ge=0)
    """Deviation of a smooth random change over the mels, for other microphones and rooms."""
    noise: Share
    """Chance that coloured noise is added, 5 to 40 dB below the mean, in decibels, of what each mel comes to at its
    loudest: in speech at 16 kHz about the mean of the loudest step, at 8 kHz, with empty upper mels, 16 dB less."""
    mel_masks: int = Field(ge=0)
    """SpecAugment (Park et al. 2019): number of blanked bands, each up to `mel_mask_width` mels wide."""
    mel_mask_width: int = Field(ge=0, le=64)
    time_masks: int = Field(ge=0)
    """Number of blanked spans, each up to `time_mask_width` of the sound."""
    time_mask_width: Share
    mixup: float = Field(ge=0)
    """alpha of the Beta(alpha, alpha) that two sounds are blended by (Zhang et al. 2017); 0: no mixup."""


class ListenRecipe(Recipe):
    input: Input
    network: Network
    augmentation: Augmentation
    optimisation: ClassifierOptimisation
