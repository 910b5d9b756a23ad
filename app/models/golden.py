"""`golden.npz`: what a model answered when it was published, and the check that it still does."""

import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.errors import ModelRejected
from app.models.torchscript import RUN_ERRORS


@dataclass(frozen=True, slots=True)
class Golden:
    """One batch through a causal classifier of video."""

    frames: NDArray[np.uint8]
    """(B, T, H, W, 3), T at least 2 so that it can be split."""
    lengths: NDArray[np.int64]
    """(B,) valid frames, in [0, T]."""
    logits: NDArray[np.float32]
    """(B, K) from `forward`."""
    now: NDArray[np.float32]
    """(B, T, K) from `step`, as `so_far`; beyond `lengths` their values mean nothing."""
    so_far: NDArray[np.float32]
    state: NDArray[np.float32]
    """(B, S) after the last valid frame."""


def record_golden(module: Any, frames: NDArray[np.uint8], lengths: NDArray[np.int64]) -> Golden:
    """What `module` answers to (B, T, H, W, 3) `frames` of which (B,) `lengths` are valid."""
    chunk, valid = torch.from_numpy(frames), torch.from_numpy(lengths)
    with torch.inference_mode():
        logits = module(chunk, valid)
        state = module.initial_state(chunk.shape[0], chunk.shape[2], chunk.shape[3])
        (now, so_far), state = module.step(chunk, valid, state)
    return Golden(frames, lengths, logits.numpy(), now.numpy(), so_far.numpy(), state.numpy())


def write_golden(path: Path, golden: Golden) -> None:
    """Writes `golden.npz`, compressed."""
    np.savez_compressed(path, **{field.name: getattr(golden, field.name) for field in fields(golden)})


def read_golden(path: Path) -> Golden:
    """The golden at `path`; raises ModelRejected for anything that is not one."""
    try:
        # Opened here: given a path, np.load leaves the file open when it is no zip.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            golden = Golden(**{field.name: arrays[field.name] for field in fields(Golden)})
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelRejected(f"golden.npz cannot be read: {error}") from error
    if golden.frames.ndim != 5 or golden.frames.dtype != np.uint8 or golden.frames.shape[1] < 2:
        raise ModelRejected("golden.npz: frames must be (B, T, H, W, 3) uint8 with T of at least 2")
    return golden


def check_golden(module: Any, golden: Golden, tolerance: float, device: torch.device | str = "cpu") -> None:
    """Raises ModelRejected unless `module` answers `golden` within `tolerance`, an absolute difference.

    It is run by `forward`, by one `step` and by two with the state carried over the split, which all must agree: any
    split of a clip equals one call over the whole of it.
    """
    frames = torch.from_numpy(golden.frames).to(device)
    lengths = torch.from_numpy(golden.lengths).to(device)
    num_clips, num_steps, height, width = frames.shape[:4]
    try:
        with torch.inference_mode():
            logits = module(frames, lengths)
            initial = module.initial_state(num_clips, height, width)
            (now, so_far), state = module.step(frames, lengths, initial)
            split = num_steps // 2
            first, carried = module.step(frames[:, :split], lengths.clamp(max=split), initial)
            second, last = module.step(frames[:, split:], (lengths - split).clamp(min=0), carried)
    except (*RUN_ERRORS, TypeError, ValueError) as error:
        raise ModelRejected(f"it fails on its golden input: {error}") from error

    valid = np.arange(num_steps) < golden.lengths[:, None]  # (B, T)
    ends = np.arange(num_clips)[golden.lengths > 0], golden.lengths[golden.lengths > 0] - 1
    split_now, split_so_far = (torch.cat(halves, dim=1) for halves in zip(first, second, strict=True))
    _compare("forward", logits, golden.logits, tolerance)
    _compare("step's now", now, golden.now, tolerance, valid)
    _compare("step's so_far", so_far, golden.so_far, tolerance, valid)
    _compare("step's state", state, golden.state, tolerance)
    _compare("now after a split", split_now, golden.now, tolerance, valid)
    _compare("so_far after a split", split_so_far, golden.so_far, tolerance, valid)
    _compare("the state after a split", last, golden.state, tolerance)
    _compare("the last so_far", so_far[ends], golden.logits[golden.lengths > 0], tolerance)


def _compare(
    what: str, answer: Tensor, expected: NDArray[Any], tolerance: float, valid: NDArray[np.bool_] | None = None
) -> None:
    found = answer.cpu().numpy()
    if found.shape != expected.shape:
        raise ModelRejected(f"{what} has the shape {found.shape}, its golden output {expected.shape}")
    differences = np.abs(found - expected)
    largest = float((differences if valid is None else differences[valid]).max(initial=0.0))
    if not largest <= tolerance:  # also when it is NaN
        raise ModelRejected(f"{what} differs from its golden output by {largest:.3g}; the tolerance is {tolerance:.3g}")
