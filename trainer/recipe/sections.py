"""What the recipes of all tasks have in common. A key that does not exist is an error."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A chance or a part of the whole."""
ClassWeights = Literal["none", "balanced"]
"""balanced: each class counts alike, however many examples it has."""
Size = Annotated[int, Field(ge=1, le=4096)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Optimisation(Section):
    """AdamW or Muon, with warm-up and cosine decay."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: steps of the same length in all directions for matrices and kernels, AdamW for the rest; see
    docs/decisions/0017."""
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    """On matrices and kernels only."""
    warmup: Share
    """Share of all steps over which the learning rate rises from 0."""
    max_gradient_norm: float = Field(gt=0)
    ema_decay: float = Field(ge=0, lt=1)
    """Of the averaged weights, which are what is published; 0: the last weights."""


class ClassifierOptimisation(Optimisation):
    """And what every classifier is to say."""

    label_smoothing: Share
    class_weights: ClassWeights = "none"
    teacher_weight: Share = 0.7
    """What the answer of the teachers, where there are any, is worth as a target; the label is worth the rest."""


class Budget(Section):
    """How long it takes."""

    num_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    validate_every: int = Field(default=1, ge=1)
    """Epochs between validations, which cost as much as some epochs do."""
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    """auto: bfloat16 where the machine multiplies it, else float32."""


class Recipe(Section):
    """One training run, but for its data, cell and seed; each task adds its own sections."""

    optimisation: Optimisation
    budget: Budget
