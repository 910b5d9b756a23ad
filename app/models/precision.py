"""Whether a classifier runs in float32 or in bfloat16: what this machine is faster at, where the scores stay right.

In bfloat16 run the layers that PyTorch's autocast takes for it: convolutions and products of matrices. Only classifiers
do: of what they answer it is said how exact it must be.
"""

import logging
import time
from typing import Any, Literal

import torch

from app.errors import ModelRejected
from app.models.golden import Golden, check_scores
from app.models.manifest import ClassifyOutput, Manifest

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]
PrecisionChoice = Literal["auto", "float32", "bfloat16"]
"""`auto`: bfloat16 where it is measured to be faster; `bfloat16`: wherever the scores allow it."""

GAIN = 1.3
"""Times as fast as float32 at least: what is measured in some milliseconds may be off by less."""
RUNS = 5
"""Of each, in turns; the fastest count."""


def in_precision(precision: Precision, device: torch.device) -> torch.autocast:
    """The context in which a model's methods are called."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def has_bfloat16(device: torch.device) -> bool:
    """Whether there are instructions for it: without, it is emulated, many times slower (pytorch#118499)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def _may_gain(device: torch.device) -> bool:
    """Whether it is worth a measurement. Without tiles, by AVX-512 alone, `actions` runs 1.06 times as fast."""
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16"))


def choose_precision(
    choice: PrecisionChoice, module: Any, manifest: Manifest, golden: Golden, device: torch.device
) -> Precision:
    """What `module`, which is right about `golden` in float32, is run in."""
    output = manifest.output
    if choice == "float32" or not isinstance(output, ClassifyOutput) or not has_bfloat16(device):
        return "float32"
    if choice == "auto" and not _may_gain(device):
        return "float32"
    name = f"{manifest.name} version {manifest.version}"
    try:
        with in_precision("bfloat16", device):
            tolerance = manifest.golden_tolerance.bfloat16
            check_scores(module, golden, output.scores, tolerance, manifest.input.step_samples, device)
    except ModelRejected as error:
        logger.info("%s runs in float32: in bfloat16, %s", name, error)
        return "float32"
    if choice == "auto" and gain(module, golden, device) < GAIN:
        return "float32"
    logger.info("%s runs in bfloat16", name)
    return "bfloat16"


@torch.inference_mode()
def gain(module: Any, golden: Golden, device: torch.device) -> float:
    """How many times as fast the golden input is in bfloat16."""
    chunk, lengths = torch.from_numpy(golden.chunk).to(device), torch.from_numpy(golden.lengths).to(device)
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(RUNS):
        for precision, taken in seconds.items():
            began = time.perf_counter()
            with in_precision(precision, device):
                module(chunk, lengths).cpu()
            taken.append(time.perf_counter() - began)
    return min(seconds["float32"]) / min(seconds["bfloat16"])
