"""`manifest.json`: what a model says of itself. A typo or a missing field fails at load."""

import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
VERSION_PATTERN = r"^[1-9][0-9]{0,8}$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Version = Annotated[str, Field(pattern=VERSION_PATTERN)]
"""An integer, compared as one."""


Task = Literal["classify", "predict", "features", "caption"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingData(_Frozen):
    """One data set a model was trained on."""

    name: str
    license: str
    """An SPDX identifier, or the terms in words where none is stated."""
    source: str


class GoldenTolerance(_Frozen):
    """Largest absolute difference from `golden.npz` at which a model is still the one that was published."""

    float32: float = 1e-5
    bfloat16: float = 0.02


class Input(_Frozen):
    """What the module is fed, so that serving repeats training to the pixel and the sample."""

    media: Literal["video", "audio"]
    width: int | Literal["any"] | None = None
    """Pixels."""
    height: int | Literal["any"] | None = None
    longest_side: int | None = None
    """Pixels; with `any`: larger pictures are scaled down to it."""
    fit: Literal["stretch", "crop", "pad", "keep"] | None = None
    sampling: Literal["uniform", "rate"] | None = None
    """uniform: `clip_length` frames spread over the video; rate: a frame every 1/rate seconds."""
    clip_length: int | None = Field(default=None, ge=1, le=1024)
    """Frames: of a uniform clip, those that a forecaster observes, or the most that a describer is shown at once."""
    rate: float | None = Field(default=None, gt=0, le=120)
    """Frames per second; also the rate of timelines of a uniform model."""
    sample_rate: int | None = Field(default=None, ge=1000, le=192_000)
    """Hz."""
    step_samples: int | None = Field(default=None, ge=1)
    """Sound is stepped in multiples of this many samples."""
    max_samples: int | None = Field(default=None, ge=1)
    """What a classifier of sound that cannot step hears at once; longer sound is judged in parts of at most this."""
    trained_for_key_frames: bool = False
    """Whether it learnt from the nearest key frames, as `sampling=fast` gives it: GET /models tells who chooses."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.media != "audio":
            if None in (self.width, self.height, self.fit, self.sampling):
                raise ValueError("video input needs width, height, fit and sampling")
            if self.sampling == "uniform" and self.clip_length is None:
                raise ValueError("uniform sampling needs clip_length")
            if self.sampling == "rate" and self.rate is None:
                raise ValueError("rate sampling needs rate")
            if "any" in (self.width, self.height) and (self.width != self.height or self.longest_side is None):
                raise ValueError("a size of any is for width and height together, with longest_side")
        if self.media != "video":
            if self.sample_rate is None:
                raise ValueError("sound input needs sample_rate")
            if (self.step_samples is None) == (self.max_samples is None):
                raise ValueError("sound input needs step_samples or max_samples")
        return self


class ClassifyOutput(_Frozen):
    """What a classifier answers."""

    labels: tuple[str, ...] = Field(min_length=1)
    """`labels[i]` names logit i."""
    scores: Literal["softmax", "sigmoid"] = "softmax"
    delay_steps: int = Field(default=0, ge=0, le=120)
    """`now` at a step is about the moment this many steps before: what came after tells a cut from a flash."""
    shortest_seconds: dict[str, float] = {}
    """Labels that timelines do not smooth, and how long each lasts at least, by its meaning: a freeze 0.5 s. One of 0,
    a moment such as a cut, ends the others of them."""
    general: bool = False
    """Whether the labels have something to say about any file, so that it may answer where no model is asked for."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ")
        if not set(self.shortest_seconds) <= set(self.labels):
            raise ValueError("shortest_seconds must be of the labels")
        if self.shortest_seconds and self.scores == "softmax":
            raise ValueError("shortest_seconds are for labels that do not compete: sigmoid scores")
        return self


class PredictOutput(_Frozen):
    """What a forecaster answers: frames of the size and rate of its input."""

    max_horizon: int = Field(ge=1, le=120)
    """Frames it may be asked for at once."""


class FeaturesOutput(_Frozen):
    """What a describer of sound answers."""

    dimension: int = Field(ge=1)
    """D of the vector of a clip."""
    step_dimension: int = Field(ge=1)
    """D of the vector of a step."""
    hop_seconds: float = Field(gt=0)
    """From one step to the next."""
    num_mels: int = Field(ge=1)
    log_mel_hop_seconds: float = Field(gt=0)


SPECIAL_WORDS = ("<pad>", "<bos>", "<eos>", "<unk>")
"""The first words of every vocabulary; they mark where a comment begins and ends, and are never part of one."""


class CaptionOutput(_Frozen):
    """What a describer of video answers: comments in words."""

    vocabulary: tuple[str, ...] = Field(min_length=len(SPECIAL_WORDS) + 1)
    """`vocabulary[i]` is token i; punctuation marks are words."""
    max_length: int = Field(ge=2, le=256)
    """Tokens of a comment at most, the one that ends it counted."""
    length_penalty: float = Field(default=0.0, ge=0, le=2)
    """What its figures were taken with."""
    numbers_are_seconds: bool = False
    """Words that are numbers are moments, in seconds since the first frame that the module is shown."""

    @model_validator(mode="after")
    def _begins_with_the_special_words(self) -> Self:
        if self.vocabulary[: len(SPECIAL_WORDS)] != SPECIAL_WORDS:
            raise ValueError(f"a vocabulary begins with {' '.join(SPECIAL_WORDS)}")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError("words must differ")
        return self


MEDIA_AND_OUTPUT: dict[Task, tuple[tuple[str, ...], type[_Frozen]]] = {
    "classify": (("video", "audio"), ClassifyOutput),
    "predict": (("video",), PredictOutput),
    "features": (("audio",), FeaturesOutput),
    "caption": (("video",), CaptionOutput),
}


class Manifest(_Frozen):
    schema_version: Literal[1]
    name: Name
    version: Version
    task: Task
    summary: str
    """One sentence for the list of models."""
    causal: bool
    """Whether the module can `step`; a must for all but classifiers of sound and describers of video."""
    cell: Literal["lstm", "gru"]
    num_parameters: int = Field(ge=1)
    state_size: int = Field(ge=0)
    """S of the state (B, S) at the model's own input size; 0 when not causal."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of `model.pt`."""
    metrics: dict[str, dict[str, float]]
    """By test set, then by metric."""
    training_data: tuple[TrainingData, ...]
    seed: int
    command: str
    """Makes the model again."""
    date: datetime.date
    torch_version: str
    golden_tolerance: GoldenTolerance = GoldenTolerance()
    input: Input
    output: ClassifyOutput | PredictOutput | FeaturesOutput | CaptionOutput

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        media, output = MEDIA_AND_OUTPUT[self.task]
        if self.input.media not in media or not isinstance(self.output, output):
            raise ValueError(f"a model for {self.task} takes {' or '.join(media)} and answers a {output.__name__}")
        may_step = self.task != "caption"
        must_step = may_step and (self.task != "classify" or self.input.media != "audio")
        if self.causal < must_step or self.causal > may_step:
            raise ValueError("only a classifier of sound may be without steps, and a describer of video has none")
        if self.input.media == "video" and self.input.rate is None:
            raise ValueError("a model of video needs a rate for its steps")
        if self.input.media == "audio" and (self.input.step_samples is None) == self.causal:
            raise ValueError("sound has step_samples where, and only where, the model can step")
        if isinstance(self.output, ClassifyOutput) and self.output.delay_steps and self.input.sampling != "rate":
            raise ValueError("delay_steps are for a model of video that samples by rate")
        if self.task == "predict" and (self.input.sampling, self.input.clip_length is None) != ("rate", False):
            raise ValueError("a forecaster is fed at a rate and observes clip_length frames")
        if self.task == "caption" and self.input.clip_length is None:
            raise ValueError("a describer is shown clip_length frames at most")
        return self

    @property
    def labels(self) -> list[str] | None:
        """A classifier's, in the order of its logits; None for the other tasks."""
        return list(self.output.labels) if isinstance(self.output, ClassifyOutput) else None

    @property
    def license(self) -> str:
        """The terms of all training data, for answers that name the model."""
        return "; ".join(dict.fromkeys(data.license for data in self.training_data))

    @property
    def origin(self) -> dict[str, str]:
        """What a file says of the model that made it."""
        return {"model": f"{self.name}@{self.version}", "license": self.license}


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`; raises pydantic.ValidationError for anything that is not one."""
    return Manifest.model_validate_json(path.read_bytes())
