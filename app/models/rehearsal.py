"""Tries a version in a process of its own before the one that serves loads anything of it.

Loading and freezing a module holds Python's lock, its golden check takes a core, and a module may run for ever or take
its process down. All that happens in the other process, which has a low priority. It hands back the module as it was
frozen and checked; to load those bytes takes the serving process a quarter of the time, and the answers are the same.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from app.errors import ModelRejected
from app.models import torchscript, warm_up
from app.models.manifest import Manifest
from app.models.precision import Precision, PrecisionChoice, prepare
from app.models.store import ServedModel, freeze_version, make_ready
from app.models.work import run_works

PATIENCE_SECONDS = 600.0
"""It takes 2 s of a core, most of them to import PyTorch, and on a machine with no core to spare it gets few."""
NICENESS = 10
"""A tenth of what others get where there is not enough; with 19, a hundredth, a busy service would wait for hours."""


async def rehearse(
    folder: Path,
    device: str = "cpu",
    choice: PrecisionChoice = "float32",
    patience_seconds: float = PATIENCE_SECONDS,
) -> ServedModel:
    """The version in `folder`, checked as `load_version` does, and warm. If cancelled, it leaves no process behind.

    Raises ModelRejected with the reason, which may be that the other process failed or took too long; ChildProcessError
    if a signal ended it, perhaps for a momentary lack of memory; OSError if it cannot be started.
    """
    command = (sys.executable, "-m", __name__, str(folder), device, choice)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(patience_seconds):
            told, _ = await process.communicate()
    except TimeoutError as error:
        raise ModelRejected(f"{folder}: checking it took longer than {patience_seconds:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode and process.returncode < 0:
        raise ChildProcessError(f"the process that checked it died of signal {-process.returncode}")
    if process.returncode:
        raise ModelRejected(f"{folder}: the process that checked it ended with {process.returncode}")
    return await asyncio.to_thread(_load, told, torch.device(device))


def _load(told: bytes, device: torch.device) -> ServedModel:
    header, _, frozen = told.partition(b"\n")
    facts: dict[str, str] = json.loads(header)
    if "rejected" in facts:
        raise ModelRejected(facts["rejected"])
    manifest = Manifest.model_validate_json(facts["manifest"])
    precision = cast("Precision", facts["precision"])
    try:
        module = torchscript.load_as_saved(frozen, device)
        prepare(module, manifest, device, precision)
    except (*torchscript.RUN_ERRORS, MemoryError) as error:
        raise ModelRejected(f"it cannot be loaded, though the process that checked it could: {error}") from error
    model = ServedModel(manifest, facts["digest"], module, facts["card"], device, precision)
    torch.set_num_threads(1)  # of this thread
    _warm_up(model)
    return model


def _warm_up(model: ServedModel) -> None:
    """Compiles the model for the sizes of nearly every request, with pauses in which requests find a core."""
    try:
        for work in warm_up.first_works(model) * warm_up.RUNS:
            began = time.perf_counter()
            run_works([work])
            time.sleep(time.perf_counter() - began)
    except (*torchscript.RUN_ERRORS, MemoryError) as error:
        raise ModelRejected(f"it cannot be run at the size that its manifest says: {error}") from error


def _try(folder: Path, device: torch.device, choice: PrecisionChoice) -> bytes:
    """A line of JSON, then the frozen module."""
    try:
        model = freeze_version(folder, device)
        frozen = torchscript.save(model.module)
        again = replace(model, module=torchscript.load_as_saved(frozen, device))
        model = make_ready(again, folder, choice)
        _warm_up(model)
    except ModelRejected as error:
        return json.dumps({"rejected": str(error)}).encode()
    facts = {"manifest": model.manifest.model_dump_json(), "digest": model.digest, "card": model.card}
    facts["precision"] = model.precision
    return json.dumps(facts).encode() + b"\n" + frozen


def main() -> None:
    """Writes to stdout what `_try` makes of the folder, device and choice of precision on the command line."""
    os.nice(NICENESS)
    answer = os.dup(1)
    os.dup2(2, 1)  # a module may print
    torch.set_num_threads(1)
    folder, device, choice = sys.argv[1:]
    told = _try(Path(folder), torch.device(device), cast("PrecisionChoice", choice))
    with os.fdopen(answer, "wb") as pipe:
        pipe.write(told)


if __name__ == "__main__":
    main()
