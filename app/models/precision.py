"""The precision that a model computes in: the faster one on this machine, as long as the scores stay right.

Only classifiers of video run convolutions in bfloat16: their manifests say how exact the scores must be, and for sound
there is too little to gain.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Literal

import torch
from torch.nn import functional

from app.errors import ModelRejected
from app.models import bfloat16, torchscript
from app.models.golden import Golden, check_scores
from app.models.manifest import ClassifyOutput, Manifest

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
"""`auto`: bfloat16 where it is measured to be faster; `bfloat16`: wherever the scores allow it."""

GAIN = 1.2
"""How many times as fast as float32 it must be: a measurement of a few milliseconds may be off by less than that."""
COMPILING_RUNS = 2
RUNS = 4
"""Of each module after those, taking turns; its fastest run counts."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it: without them it is emulated, many times slower (pytorch#118499)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


@cache
def convolution_gain() -> float:
    """How many times as fast this processor is at a convolution of its own in bfloat16, in one thread.

    It takes 6 ms, and where it is below 1 no model need be converted and measured, which takes 0.1 to 0.5 s each: on
    some processors, AVX-512's instructions for bfloat16 are half as fast as those for float32.
    """
    pictures, kernels = torch.zeros(1, 32, 36, 48), torch.zeros(64, 32, 3, 3)
    exact = partial(functional.conv2d, pictures, kernels)
    fast = partial(functional.conv2d, pictures.bfloat16(), kernels.bfloat16())
    exact_seconds, fast_seconds = _fastest((exact, fast), time.thread_time)
    return exact_seconds / fast_seconds


def in_bfloat16(
    choice: PrecisionChoice, frozen: torch.jit.ScriptModule, manifest: Manifest, device: torch.device
) -> torch.jit.ScriptModule | None:
    """A copy of `frozen` with convolutions in bfloat16; None if it has none, or choice, device or model rule that out.

    Raises ModelRejected.
    """
    if (
        choice == "float32"
        or not has_bfloat16(device)
        or (choice == "auto" and device.type == "cpu" and convolution_gain() < 1)
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
    """Whether `fast`, in bfloat16, should replace `exact`: by `choice`, the time that it takes and the tolerance."""
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
    """Optimises the frozen module for this machine and `precision`, in place. Raises ModelRejected.

    In float32 only where that was measured to help: docs/decisions/0019.
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
    """How many times as fast as `exact` `fast` is on the golden input. Raises ModelRejected where one of them fails."""
    chunk, lengths = torch.from_numpy(golden.chunk).to(device), torch.from_numpy(golden.lengths).to(device)
    clock = time.thread_time if device.type == "cpu" else time.perf_counter  # other threads load other models
    calls = [lambda module=module: module(chunk, lengths).cpu() for module in (exact, fast)]
    try:
        exact_seconds, fast_seconds = _fastest(calls, clock)
    except torchscript.RUN_ERRORS as error:
        raise ModelRejected(f"it fails on its golden input: {error}") from error
    return exact_seconds / fast_seconds


@torch.inference_mode()
def _fastest(calls: Sequence[Callable[[], object]], clock: Callable[[], float]) -> list[float]:
    """Seconds that each of the calls takes, in turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(COMPILING_RUNS + RUNS):
        for call, taken in zip(calls, seconds, strict=True):
            began = clock()
            call()
            taken.append(clock() - began)
    return [min(taken[COMPILING_RUNS:]) for taken in seconds]
