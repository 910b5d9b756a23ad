"""A causal classifier of video, small enough for every test and right about colours, and its place in a store."""

import datetime
import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.models import torchscript
from app.models.golden import record_golden, write_golden
from app.models.manifest import SCHEMA_VERSION, ClassifyOutput, GoldenTolerance, Input, Manifest, TrainingData

COLOURS = ("red", "green", "blue")
HIDDEN_SIZE = 8


class TinyClassifier(nn.Module):
    """Tells which colour a video shows: label i for colour channel i, the rest by chance.

    The state is (hidden, sum of the logits so far, number of frames so far); `so_far` is the mean of the logits.
    """

    def __init__(self, num_labels: int = len(COLOURS), hidden_size: int = HIDDEN_SIZE) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.hidden_size = hidden_size
        self.encoder = nn.Conv2d(3, hidden_size, kernel_size=3, stride=2, padding=1)
        self.recurrent = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, num_labels)
        self.colours = nn.Linear(3, num_labels, bias=False)
        with torch.no_grad():
            self.colours.weight.copy_(8.0 * torch.eye(num_labels, 3))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        _, state = self.step(frames, lengths, self.initial_state(frames.shape[0], 0, 0))
        return self._mean(state)

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return torch.zeros(B, self.hidden_size + self.num_labels + 1, device=self.output.bias.device)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        B, T, H, W, _ = chunk.shape
        pictures = chunk.reshape(B * T, H, W, 3).permute(0, 3, 1, 2).float() / 255.0  # (B*T, 3, H, W)
        encoded = torch.relu(self.encoder(pictures)).mean(dim=(2, 3)).reshape(B, T, -1)
        colours = pictures.mean(dim=(2, 3)).reshape(B, T, 3)

        hidden = state[:, : self.hidden_size]
        outputs, _ = self.recurrent(encoded, hidden.unsqueeze(0).contiguous())
        now = self.output(outputs) + self.colours(colours)  # (B, T, K)

        valid = (torch.arange(T, device=chunk.device) < lengths.unsqueeze(1)).unsqueeze(2).float()  # (B, T, 1)
        sums = state[:, self.hidden_size :].unsqueeze(1) + torch.cat([now * valid, valid], dim=2).cumsum(dim=1)
        so_far = sums[:, :, :-1] / sums[:, :, -1:].clamp(min=1.0)

        history = torch.cat([hidden.unsqueeze(1), outputs], dim=1)  # (B, T+1, D)
        last = lengths.reshape(B, 1, 1).expand(B, 1, self.hidden_size)
        return (now, so_far), torch.cat([history.gather(1, last)[:, 0], sums[:, -1]], dim=1)

    def _mean(self, state: Tensor) -> Tensor:
        return state[:, self.hidden_size : -1] / state[:, -1:].clamp(min=1.0)


class AroundTiny(nn.Module):
    """A TinyClassifier inside, for what does something else in one of its methods."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TinyClassifier()

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return self.inner(frames, lengths)

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return self.inner.initial_state(B, H, W)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return self.inner.step(chunk, lengths, state)


def make_tiny(num_labels: int = len(COLOURS), hidden_size: int = HIDDEN_SIZE, seed: int = 0) -> TinyClassifier:
    """The same module for the same arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyClassifier(num_labels, hidden_size)


@functools.cache  # compiling it is most of what a test's store costs
def _scripted_tiny(num_labels: int, seed: int) -> torch.jit.ScriptModule:
    return torchscript.script(make_tiny(num_labels, seed=seed))


def make_manifest(
    model_bytes: bytes,
    name: str = "tiny",
    version: str = "1",
    labels: tuple[str, ...] = COLOURS,
    *,
    sampling: str = "uniform",
    width: int = 32,
    height: int = 24,
    clip_length: int = 8,
    rate: float = 4.0,
) -> Manifest:
    """The manifest of a TinyClassifier that was saved as `model_bytes`."""
    return Manifest.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "version": version,
            "task": "classify",
            "summary": "Tells red from green from blue.",
            "causal": True,
            "cell": "gru",
            "num_parameters": sum(parameter.numel() for parameter in make_tiny(len(labels)).parameters()),
            "state_size": HIDDEN_SIZE + len(labels) + 1,
            "sha256": hashlib.sha256(model_bytes).hexdigest(),
            "metrics": {"colours": {"accuracy": 1.0}},
            "training_data": (TrainingData(name="none", license="CC0-1.0", source="made up"),),
            "seed": 0,
            "command": "python -m tests.tiny_models",
            "date": datetime.date(2026, 1, 1),
            "torch_version": torch.__version__,
            "golden_tolerance": GoldenTolerance(),
            "input": Input.model_validate(
                {
                    "media": "video",
                    "width": width,
                    "height": height,
                    "fit": "stretch",
                    "sampling": sampling,
                    "clip_length": clip_length if sampling == "uniform" else None,
                    "rate": rate,
                    "trained_for_key_frames": sampling == "uniform",  # a colour is one in all frames
                }
            ),
            "output": ClassifyOutput(labels=labels),
        }
    )


def write_version(
    store: Path,
    name: str = "tiny",
    version: str = "1",
    labels: tuple[str, ...] = COLOURS,
    *,
    module: nn.Module | None = None,
    seed: int = 0,
    sampling: str = "uniform",
    width: int = 32,
    height: int = 24,
    clip_length: int = 8,
    rate: float = 4.0,
) -> Path:
    """A complete, valid version in `store`, of `module` or else of a TinyClassifier; its folder."""
    scripted = _scripted_tiny(len(labels), seed) if module is None else torchscript.script(module)
    model_bytes = torchscript.save(scripted)
    manifest = make_manifest(
        model_bytes,
        name,
        version,
        labels,
        sampling=sampling,
        width=width,
        height=height,
        clip_length=clip_length,
        rate=rate,
    )
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, height, width, 3), dtype=np.uint8)
    return write_folder(store, scripted, manifest, model_bytes, frames, (5, 3))


def write_folder(
    store: Path,
    scripted: torch.jit.ScriptModule,
    manifest: Manifest,
    model_bytes: bytes,
    chunk: np.ndarray,
    lengths: tuple[int, ...],
) -> Path:
    """The version that `manifest` describes, with its golden output for `chunk` and a card."""
    folder = store / manifest.name / manifest.version
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(model_bytes)
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    golden = record_golden(scripted, manifest.task, chunk, np.array(lengths), manifest.input.step_samples)
    write_golden(folder / "golden.npz", golden)
    (folder / "card.md").write_text(f"# {manifest.name}\n\n{manifest.summary}\n", encoding="utf-8")
    return folder


def write_other(
    store: Path,
    name: str,
    module: nn.Module,
    chunk: np.ndarray,
    lengths: tuple[int, ...],
    state_size: int,
    **fields: Any,
) -> Path:
    """A complete, valid version of `module`; `fields` are those of its manifest that differ from version 1 of a
    TinyClassifier."""
    scripted = torchscript.script(module)
    model_bytes = torchscript.save(scripted)
    common = make_manifest(model_bytes, name).model_dump()
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    described = common | {"num_parameters": num_parameters, "state_size": state_size} | fields
    return write_folder(store, scripted, Manifest.model_validate(described), model_bytes, chunk, lengths)
