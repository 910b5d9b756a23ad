"""`golden.npz`: what a model answered when it was published, and the check that it still does."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.errors import ModelRejected
from app.models.manifest import Task
from app.models.torchscript import RUN_ERRORS

FORWARD_ARGUMENTS: dict[Task, tuple[int | float, ...]] = {
    "classify": (),
    "predict": (3,),  # frames
    "features": (),
    "caption": (2, 12, 1.0),  # beam, max_length, length_penalty
}
"""What `forward` is given beside its input."""

FORWARD_OUTPUTS: dict[Task, tuple[str, ...]] = {
    "classify": ("logits",),
    "predict": ("forecast",),
    "features": ("clip", "steps", "step_lengths"),
    "caption": ("tokens", "scores"),
}
STEP_OUTPUTS: dict[Task, tuple[str, ...]] = {
    "classify": ("now", "so_far"),
    "predict": ("next_frames",),
    "features": ("stepped",),
    "caption": (),
}
VALID_STEPS = {
    "now": "lengths",
    "so_far": "lengths",
    "next_frames": "lengths",
    "steps": "step_lengths",
    "stepped": "step_lengths",
    "log_mel": "log_mel_lengths",
}
"""By output (B, T, ...), what counts its valid steps: beyond them its values mean nothing."""
LOGITS = {"logits", "now", "so_far"}
"""Outputs of a classifier that scores are made of."""


@dataclass(frozen=True, slots=True)
class Golden:
    """One batch through a model."""

    chunk: NDArray[Any]
    """Frames (B, T, H, W, 3) uint8 or waveform (B, N) float32; long enough to be split."""
    lengths: NDArray[np.int64]
    """(B,) valid frames or samples."""
    outputs: Mapping[str, NDArray[Any]]
    """By name, of FORWARD_OUTPUTS and, where the model can step, STEP_OUTPUTS and `state` (B, S) after the last valid
    step; then `decoded` by a forecaster, `log_mel`, `log_mel_lengths` and `stepped_clip` by a describer of sound."""


def record_golden(
    module: Any, task: Task, chunk: NDArray[Any], lengths: NDArray[np.int64], step_samples: int | None = None
) -> Golden:
    """What `module` answers to frames or a waveform of which (B,) `lengths` are valid."""
    answers = _answers(module, task, torch.from_numpy(chunk), torch.from_numpy(lengths), len(chunk[0]), step_samples)
    return Golden(chunk, lengths, {name: answer.numpy() for name, answer in answers.items()})


def write_golden(path: Path, golden: Golden) -> None:
    """Writes `golden.npz`, compressed."""
    name = "frames" if golden.chunk.ndim == 5 else "waveform"
    arrays: dict[str, Any] = {name: golden.chunk, "lengths": golden.lengths, **golden.outputs}
    np.savez_compressed(path, **arrays)


def read_golden(path: Path) -> Golden:
    """The golden at `path`; raises ModelRejected for anything that is not one."""
    try:
        # Opened here: given a path, np.load leaves the file open when it is no zip.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelRejected(f"golden.npz cannot be read: {error}") from error
    frames, waveform, lengths = (arrays.pop(name, None) for name in ("frames", "waveform", "lengths"))
    chunk = waveform if frames is None else frames
    if chunk is None or lengths is None or not arrays:
        raise ModelRejected("golden.npz has no input, no lengths or no outputs")
    if frames is not None and (frames.ndim != 5 or frames.dtype != np.uint8 or frames.shape[1] < 2):
        raise ModelRejected("golden.npz: frames must be (B, T, H, W, 3) uint8 with T of at least 2")
    if frames is None and (chunk.ndim != 2 or chunk.dtype != np.float32):
        raise ModelRejected("golden.npz: waveform must be (B, N) float32")
    if lengths.shape != chunk.shape[:1] or lengths.dtype != np.int64:
        raise ModelRejected("golden.npz: lengths must be (B,) int64")
    if any(output.dtype.kind not in "fi" for output in arrays.values()):
        raise ModelRejected("golden.npz: outputs must be numbers")
    return Golden(chunk, lengths, arrays)


def check_golden(
    module: Any,
    task: Task,
    golden: Golden,
    tolerance: float,
    step_samples: int | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Raises ModelRejected unless `module` answers `golden` within `tolerance`, an absolute difference.

    It is run by `forward`, by one `step` and by two with the state carried over the split, which all must agree: any
    split of a clip equals one call over the whole of it.
    """
    for manner, answers in _in_both_manners(module, task, golden, step_samples, device):
        if missing := answers.keys() - golden.outputs.keys():
            raise ModelRejected(f"golden.npz has no {' and no '.join(sorted(missing))}")
        for name, answer in answers.items():
            _compare(f"{name}{manner}", name, answer.cpu().numpy(), golden, tolerance)
    _check_agreement(task, golden, tolerance)


def check_scores(
    module: Any,
    golden: Golden,
    kind: Literal["softmax", "sigmoid"],
    tolerance: float,
    step_samples: int | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """As `check_golden`, for a classifier's scores alone: the check of a module that computes less exactly."""
    outputs = {name: _scores(torch.from_numpy(golden.outputs[name]), kind) for name in LOGITS & golden.outputs.keys()}
    expected = replace(golden, outputs=outputs)
    for manner, answers in _in_both_manners(module, "classify", golden, step_samples, device):
        for name in outputs:
            _compare(f"{name}{manner}", name, _scores(answers[name], kind), expected, tolerance)


def _scores(logits: Tensor, kind: Literal["softmax", "sigmoid"]) -> NDArray[np.float32]:
    """Logits (..., K) -> scores (..., K) in [0, 1]."""
    logits = logits.float().cpu()
    scores: NDArray[np.float32] = (logits.softmax(-1) if kind == "softmax" else logits.sigmoid()).numpy()
    return scores


def _in_both_manners(
    module: Any, task: Task, golden: Golden, step_samples: int | None, device: torch.device | str
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The answers to a golden input: in one step and, if the module can step, in two. Raises ModelRejected."""
    chunk, lengths = torch.from_numpy(golden.chunk).to(device), torch.from_numpy(golden.lengths).to(device)
    unit = step_samples or 1
    half = chunk.shape[1] // unit // 2 * unit
    splits = {"": chunk.shape[1], " after a split": half} if "state" in golden.outputs else {"": chunk.shape[1]}
    for manner, split in splits.items():
        try:
            yield manner, _answers(module, task, chunk, lengths, split, step_samples)
        except (*RUN_ERRORS, TypeError, ValueError, AttributeError) as error:
            raise ModelRejected(f"it fails on its golden input: {error}") from error


@torch.inference_mode()
def _answers(
    module: Any, task: Task, chunk: Tensor, lengths: Tensor, split: int, step_samples: int | None
) -> dict[str, Tensor]:
    """Every output of the module by name; `step` is called twice, on what is before `split` and on the rest.

    A describer of sound can always step, a classifier of sound where it has `step_samples`, a describer of video never.
    """
    forward = module(chunk, lengths, *FORWARD_ARGUMENTS[task])
    answers = dict(zip(FORWARD_OUTPUTS[task], _as_tuple(forward), strict=True))
    if task == "caption" or (chunk.ndim == 2 and step_samples is None):
        return answers
    height, width = (chunk.shape[2], chunk.shape[3]) if chunk.ndim == 5 else (0, 0)
    state = module.initial_state(chunk.shape[0], height, width).to(chunk.device)
    outputs, state = module.step(chunk[:, :split], lengths.clamp(max=split), state)
    if split < chunk.shape[1]:
        more, state = module.step(chunk[:, split:], (lengths - split).clamp(min=0), state)
        pairs = zip(_as_tuple(outputs), _as_tuple(more), strict=True)
        outputs = tuple(torch.cat(halves, dim=1) for halves in pairs)
    answers |= zip(STEP_OUTPUTS[task], _as_tuple(outputs), strict=True)
    answers["state"] = state
    if task == "predict":
        answers["decoded"] = module.decode(state, *FORWARD_ARGUMENTS[task], height, width)
    if task == "features":
        answers["stepped_clip"] = module.clip(state)
        answers |= zip(("log_mel", "log_mel_lengths"), module.log_mel(chunk, lengths), strict=True)
    return answers


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def _check_agreement(task: Task, golden: Golden, tolerance: float) -> None:
    """Raises ModelRejected unless `forward` and `step` agree in the golden outputs, which the module has reproduced."""
    outputs = golden.outputs
    if "state" not in outputs:
        return
    heard = golden.lengths > 0
    if task == "classify":
        num_steps = _num_valid("so_far", golden, outputs["so_far"].shape[1])
        last = outputs["so_far"][np.arange(len(heard))[heard], num_steps[heard] - 1]
        _difference("the last so_far", last, outputs["logits"][heard], tolerance)
    elif task == "predict":
        _difference("decoded", outputs["decoded"][heard], outputs["forecast"][heard], tolerance)
    else:
        _difference("the clip after steps", outputs["stepped_clip"], outputs["clip"], tolerance)
        for row, length in enumerate(outputs["step_lengths"]):
            _difference("stepped", outputs["stepped"][row, :length], outputs["steps"][row, :length], tolerance)


def _compare(what: str, name: str, found: NDArray[Any], golden: Golden, tolerance: float) -> None:
    expected = golden.outputs[name]
    if found.shape != expected.shape:
        raise ModelRejected(f"{what} has the shape {found.shape}, its golden output {expected.shape}")
    if name in VALID_STEPS:
        valid = np.arange(found.shape[1]) < _num_valid(name, golden, found.shape[1])[:, None]  # (B, T)
        found, expected = found[valid], expected[valid]
    _difference(what, found, expected, tolerance)


def _num_valid(name: str, golden: Golden, num_steps: int) -> NDArray[np.int64]:
    """(B,) how many of `num_steps` are valid; for sound, a step is an equal share of the samples."""
    if VALID_STEPS[name] == "lengths":
        counted: NDArray[np.int64] = golden.lengths * num_steps // golden.chunk.shape[1]
    else:
        counted = golden.outputs[VALID_STEPS[name]]
    return counted


def _difference(what: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float) -> None:
    if found.shape != expected.shape:
        raise ModelRejected(f"{what} has the shape {found.shape}, what it must agree with {expected.shape}")
    largest = float(np.abs(found - expected).max(initial=0.0))
    if not largest <= tolerance:  # also when it is NaN
        raise ModelRejected(f"{what} differs from its golden output by {largest:.3g}; the tolerance is {tolerance:.3g}")
