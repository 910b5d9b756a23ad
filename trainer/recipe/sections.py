"""What the recipes of all tasks have in common. A key that does not exist is an error."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A chance, or a share of the whole."""
ClassWeights = Literal["none", "balanced"]
"""balanced: each class counts the same, however many examples it has."""
Size = Annotated[int, Field(ge=1, le=4096)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Optimisation(Section):
    """AdamW or Muon, with warm-up and cosine decay."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: steps of equal length in all directions for matrices and kernels, AdamW for the rest; see
    docs/decisions/0017."""
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    """Only for matrices and kernels."""
    warmup: Share
    """Share of all steps over which the learning rate rises from 0."""
    max_gradient_norm: float = Field(gt=0)
    ema_decay: float = Field(ge=0, lt=1)
    """Of the averaged weights, which are published; 0: the last weights are."""


class ClassifierOptimisation(Optimisation):
    """Adds what every classifier needs."""

    label_smoothing: Share
    class_weights: ClassWeights = "none"
    teacher_weight: Share = 0.7
    """Weight of the teachers' answer in the target, if there are teachers; the label gets the rest."""


class Budget(Section):
    """How long training lasts, and in what steps."""

    num_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    validate_every: int = Field(default=1, ge=1)
    """Epochs from one validation to the next; a validation may cost as much as an epoch."""
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    """auto: bfloat16 if the machine multiplies it, else float32."""


class Recipe(Section):
    """One training run, except for its data, cell and seed. Each task adds its own sections."""

    optimisation: Optimisation
    budget: Budget
