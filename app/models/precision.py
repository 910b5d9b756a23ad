"""What a model computes in: what this machine is faster at, where the scores stay right; and its module made for that.

Only classifiers of video have convolutions in bfloat16: of their scores it is said how exact they must be, and of sound
there is too little to gain.
"""

import logging
import time
from typing import Any, Literal

import torch

from app.errors import ModelRejected
from app.models import bfloat16, torchscript
from app.models.golden import Golden, check_scores
from app.models.manifest import ClassifyOutput, Manifest

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
"""`auto`: bfloat16 where it is measured to be faster; `bfloat16`: wherever the scores allow it."""

GAIN = 1.2
"""Times as fast as float32 at least: what is measured in some milliseconds may be off by less."""
COMPILING_RUNS = 2
RUNS = 4
"""Of each after those, in turns; the fastest count."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether there are instructions for it: without, it is emulated, many times slower (pytorch#118499)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def in_bfloat16(
    choice: PrecisionChoice, frozen: torch.jit.ScriptModule, manifest: Manifest, device: torch.device
) -> torch.jit.ScriptModule | None:
    """What `frozen`, which is left as it is, would run as; None where that is not to be, or would change nothing."""
    if (
        choice == "float32"
        or not has_bfloat16(device)
        or not isinstance(manifest.output, ClassifyOutput)
        or manifest.input.media == "audio"
    ):
        return None
    fast = torchscript.copy(frozen, device)
    try:
        return fast if bfloat16.lower(fast, device) else None
    except torchscript.RUN_ERRORS as error:
        raise ModelRejected(f"model.pt cannot be converted to bfloat16: {error}") from error


def is_better(
    choice: PrecisionChoice, fast: Any, exact: Any, manifest: Manifest, golden: Golden, device: torch.device
) -> bool:
    """Whether `fast`, in bfloat16, is to run instead of `exact`: by `choice`, the clock and the tolerance."""
    assert isinstance(manifest.output, ClassifyOutput)
    name, tolerance = f"{manifest.name} version {manifest.version}", manifest.golden_tolerance.bfloat16
    try:
        if choice == "auto" and (times := gain(exact, fast, golden, device)) < GAIN:
            logger.info("%s runs in float32: in bfloat16, it is %.2f times as fast", name, times)
            return False
        check_scores(fast, golden, manifest.output.scores, tolerance, manifest.input.step_samples, device)
    except ModelRejected as error:
        logger.info("%s runs in float32: in bfloat16, %s", name, error)
        return False
    logger.info("%s runs in bfloat16", name)
    return True


def prepare(frozen: torch.jit.ScriptModule, manifest: Manifest, device: torch.device, precision: Precision) -> None:
    """Makes the frozen module in place what runs fastest here in that precision. Raises ModelRejected.

    In float32, where that was measured to help: docs/decisions/0019.
    """
    helps = device.type == "cpu" and manifest.input.media == "video" and manifest.task in ("classify", "caption")
    try:
        if precision == "bfloat16":
            bfloat16.lower(frozen, device)
        elif helps:
            torchscript.optimise(frozen)
    except torchscript.RUN_ERRORS as error:
        raise ModelRejected(f"model.pt cannot be optimised: {error}") from error


@torch.inference_mode()
def gain(exact: Any, fast: Any, golden: Golden, device: torch.device) -> float:
    """How many times as fast as `exact` the other is on the golden input. Raises ModelRejected where one fails."""
    chunk, lengths = torch.from_numpy(golden.chunk).to(device), torch.from_numpy(golden.lengths).to(device)
    clock = time.thread_time if device.type == "cpu" else time.perf_counter  # other threads load other models
    seconds: list[list[float]] = [[], []]
    try:
        for _ in range(COMPILING_RUNS + RUNS):
            for module, taken in zip((exact, fast), seconds, strict=True):
                began = clock()
                module(chunk, lengths).cpu()
                taken.append(clock() - began)
    except torchscript.RUN_ERRORS as error:
        raise ModelRejected(f"it fails on its golden input: {error}") from error
    exact_seconds, fast_seconds = (min(taken[COMPILING_RUNS:]) for taken in seconds)
    return exact_seconds / fast_seconds
