"""The first calls of a model: those after which TorchScript has compiled it for nearly every request."""

import torch

from app.models.manifest import CaptionOutput
from app.models.store import ServedModel
from app.models.work import BeamSearch, Work

RUNS = 3
"""Of each work: TorchScript compiles in the first runs of a method; by the third all take the same time."""
SIDE = 16  # pixels, for a model that takes any size
FORECAST_FRAMES = 3
"""A forecaster takes milliseconds for each; its first call at full size is only 5 % slower for so few."""
FORECAST_HORIZON = 2
BEAM = 4


def first_works(model: ServedModel, step_length: int = 32) -> list[Work]:
    """One work of each size that nearly every request for the model has. `step_length`: steps in one call of `step`."""
    wanted, module = model.manifest.input, model.module
    if wanted.sample_rate is not None:
        second = torch.zeros(wanted.sample_rate if wanted.step_samples is None else wanted.step_samples * step_length)
        if wanted.step_samples is None:
            return [Work(model, second, "forward")]
        return [Work(model, second, "step", module.initial_state(1, 0, 0)[0])]
    height = wanted.height if isinstance(wanted.height, int) else SIDE
    width = wanted.width if isinstance(wanted.width, int) else SIDE
    horizon, clip_length = 0, wanted.clip_length or step_length
    if model.manifest.task == "predict":
        horizon, clip_length, step_length = FORECAST_HORIZON, FORECAST_FRAMES, FORECAST_FRAMES
    clip = torch.zeros(clip_length, height, width, 3, dtype=torch.uint8)
    if isinstance(model.manifest.output, CaptionOutput):
        search = BeamSearch(BEAM, model.manifest.output.max_length, model.manifest.output.length_penalty)
        return [Work(model, clip, "forward", search=search)]
    chunk = torch.zeros(step_length, height, width, 3, dtype=torch.uint8)
    step = Work(model, chunk, "step", module.initial_state(1, height, width)[0])
    return [Work(model, clip, "forward", horizon=horizon), step]
