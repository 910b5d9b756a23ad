"""What finished classifiers say of a clip, for another one to learn from (Hinton et al. 2015, arXiv:1503.02531)."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.jit import ScriptModule

from app.models import torchscript
from app.models.manifest import ClassifyOutput
from trainer.recipe.reading import RecipeError
from trainer.run import MODEL, read_run

MAX_PIXEL = 255


class Teachers:
    """The mean answer of several classifiers of video."""

    def __init__(self, modules: Sequence[ScriptModule]) -> None:
        self._modules = tuple(modules)

    @torch.no_grad()
    def __call__(self, pictures: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """pictures (B,T,3,H,W) in [0,1], lengths (B,) -> now, so_far (B,T,K): probabilities, from a fresh state.

        The very pictures that the pupil sees, cropped, tinted and blended as they are: an answer about the whole
        video would be wrong of a crop that misses the point (Beyer et al. 2022, arXiv:2106.05237).
        """
        frames = (pictures * MAX_PIXEL).round().clamp(0, MAX_PIXEL).to(torch.uint8).permute(0, 1, 3, 4, 2)
        now, so_far = [], []
        for module in self._modules:
            state = module.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
            (module_now, module_so_far), _ = module.step(frames, lengths, state)
            now.append(module_now.float().softmax(2))
            so_far.append(module_so_far.float().softmax(2))
        return torch.stack(now).mean(0), torch.stack(so_far).mean(0)


def load_teachers(runs: Sequence[Path], labels: tuple[str, ...]) -> Teachers | None:
    """The models of finished runs; None without any. Raises RecipeError for a run that tells other things apart."""
    for folder in runs:
        output = read_run(folder).output
        if not isinstance(output, ClassifyOutput) or output.labels != labels:
            raise RecipeError(f"{folder} does not tell {', '.join(labels)} apart, in this order")
    return Teachers([torchscript.load((folder / MODEL).read_bytes()) for folder in runs]) if runs else None
