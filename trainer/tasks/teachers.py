"""Answers of finished classifiers, for another one to learn from (Hinton et al. 2015, arXiv:1503.02531)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.jit import ScriptModule

from app.models import torchscript
from app.models.manifest import ClassifyOutput
from trainer.networks.sound_classifier import SoundClassifier
from trainer.recipe.listen import ListenRecipe
from trainer.recipe.reading import RecipeError, read_recipe
from trainer.run import MODEL, RECIPE, Run, read_run

MAX_PIXEL = 255


class Teachers:
    """The mean answer of several classifiers of video."""

    def __init__(self, models: Sequence[bytes]) -> None:
        """`models`: contents of `model.pt`."""
        self._models = tuple(models)
        self._modules: tuple[ScriptModule, ...] = ()
        self._device: torch.device | None = None

    @torch.no_grad()
    def __call__(self, pictures: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """pictures (B,T,3,H,W) in [0,1], lengths (B,) -> now, so_far (B,T,K): probabilities, from a fresh state.

        They see exactly what the pupil sees, cropped, tinted and blended: an answer about the whole video would be
        wrong for a crop that misses the action (Beyer et al. 2022, arXiv:2106.05237).
        """
        if self._device != pictures.device:  # a frozen module stays where it was loaded
            self._modules = tuple(torchscript.load(model, pictures.device) for model in self._models)
            self._device = pictures.device
        frames = (pictures * MAX_PIXEL).round().clamp(0, MAX_PIXEL).to(torch.uint8).permute(0, 1, 3, 4, 2)
        now, so_far = [], []
        for module in self._modules:
            state = module.initial_state(frames.shape[0], frames.shape[2], frames.shape[3]).to(frames.device)
            (module_now, module_so_far), _ = module.step(frames, lengths, state)
            now.append(module_now.float().softmax(2))
            so_far.append(module_so_far.float().softmax(2))
        return torch.stack(now).mean(0), torch.stack(so_far).mean(0)


class ListeningTeachers:
    """The mean answer of several classifiers of sound."""

    def __init__(self, networks: Sequence[SoundClassifier]) -> None:
        self._networks = tuple(networks)

    @torch.no_grad()
    def __call__(self, log_mel: Tensor, lengths: Tensor) -> Tensor:
        """log-mel (B,T,M), lengths (B,) in steps -> probabilities (B,K), for exactly what the pupil hears."""
        found = [network.to(log_mel.device).classify(log_mel, lengths).softmax(1) for network in self._networks]
        return torch.stack(found).mean(0)


def load_teachers(runs: Sequence[Path], labels: tuple[str, ...]) -> Teachers | None:
    """The models of finished runs; None without any. Raises RecipeError for a run that tells other things apart."""
    for folder in runs:
        _read(folder, labels, "video")
    return Teachers([(folder / MODEL).read_bytes() for folder in runs]) if runs else None


def load_listening_teachers(runs: Sequence[Path], labels: tuple[str, ...]) -> ListeningTeachers | None:
    """As `load_teachers`, for sounds. It loads networks, not published files, which take no changed spectrograms."""
    networks = []
    for folder in runs:
        cell, recipe = _read(folder, labels, "audio").cell, read_recipe(folder / RECIPE, (), ListenRecipe)
        network = SoundClassifier(len(labels), cell, recipe.network)
        network.load_state_dict(torchscript.weights((folder / MODEL).read_bytes()))
        networks.append(network.eval())
    return ListeningTeachers(networks) if networks else None


def _read(folder: Path, labels: tuple[str, ...], media: Literal["video", "audio"]) -> Run:
    run = read_run(folder)
    if not isinstance(run.output, ClassifyOutput) or run.output.labels != labels or run.input.media != media:
        raise RecipeError(f"{folder} does not tell {', '.join(labels)} apart, in this order, in {media}")
    return run
