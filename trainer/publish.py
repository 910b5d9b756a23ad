"""A trained network into the model store: compiled, checked as the service checks it, written whole or not at all."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.errors import ModelRejected
from app.models import torchscript
from app.models.golden import (
    FORWARD_ARGUMENTS,
    FORWARD_OUTPUTS,
    Golden,
    check_golden,
    read_golden,
    record_golden,
    write_golden,
)
from app.models.manifest import SCHEMA_VERSION, GoldenTolerance, Manifest, Task, read_manifest
from app.models.store import list_versions, load_version
from trainer.card import model_card
from trainer.plan import Plan
from trainer.run import MODEL, RECIPE, Run, read_run

GOLDEN, PICTURES = "golden.npz", "pictures"
MAX_DIFFERENCE = 1e-5
"""Between eager and compiled, whole and in chunks, padded and alone: float32 sums in another order."""


class Compiled:
    """A plan's network, compiled before it is trained, so that what cannot be published is known hours earlier.

    Besides, compiling reads the source files, which may have changed by the end of a long training.
    """

    def __init__(self, task: Task, plan: Plan) -> None:
        """Raises ModelRejected as `save`, or RuntimeError for what TorchScript does not take."""
        self.task = task
        self.chunk, self.lengths = plan.golden
        self.step_samples = plan.input.step_samples
        network = plan.learner.module()
        self.scripted = torchscript.script(network)
        self._checked(network)

    def save(self, network: nn.Module, folder: Path) -> bytes:
        """The content of `model.pt`, with the weights of `network`. Written to `folder`, beside `golden.npz`.

        Raises ModelRejected unless both answer the same, whole, in chunks, padded and alone.
        """
        self.scripted.load_state_dict(network.state_dict())
        model_bytes, golden = self._checked(network)
        (folder / MODEL).write_bytes(model_bytes)
        write_golden(folder / GOLDEN, golden)
        return model_bytes

    def _checked(self, network: nn.Module) -> tuple[bytes, Golden]:
        golden = record_golden(network.eval(), self.task, self.chunk, self.lengths, self.step_samples)
        if not np.isfinite(golden.outputs[FORWARD_OUTPUTS[self.task][0]]).all():
            raise ModelRejected("what it learnt gives no finite answers: try a lower optimisation.learning_rate")
        model_bytes = torchscript.without_sources(torchscript.save(self.scripted))
        module = torchscript.load(model_bytes)
        check_golden(module, self.task, golden, MAX_DIFFERENCE, self.step_samples)
        _check_padding(module, self.task, golden)
        if "state" in golden.outputs:
            _check_step_by_step(module, golden, self.step_samples or 1)
        return model_bytes, golden


def check_place(store: Path, name: str, task: Task) -> None:
    """Checks, before a training, that its run can be published under `name`. Makes nothing.

    Raises ModelRejected for a name whose versions do something else, OSError for a store that cannot be written to.
    """
    there_already = next(path for path in (store, *store.absolute().parents) if path.exists())
    if not there_already.is_dir():
        raise NotADirectoryError(f"{there_already} is not a folder, so the store cannot be there")
    if not os.access(there_already, os.W_OK):
        raise PermissionError(f"{there_already} cannot be written to")
    versions = list_versions(store, name)
    if versions and (there := read_manifest(store / name / versions[-1] / "manifest.json").task) != task:
        raise ModelRejected(f"{name} in {store} is a model for {there}, not for {task}: choose another name")


def publish(folder: Path, store: Path, compared: Sequence[Path] = ()) -> Path:
    """The folder of a new version in `store`, of the finished run in `folder`; its card compares the runs `compared`.

    Written beside the store's models, loaded and checked as the service does, and only then renamed into place; a
    version that exists is never touched. Where another publisher takes the number meanwhile, the next one is tried.
    Raises ModelRejected, ValidationError for a folder that is not a run's, or OSError.
    """
    name = read_run(folder).name
    while True:
        version = str(max(map(int, list_versions(store, name)), default=0) + 1)
        try:
            return _publish_as(version, folder, store, compared)
        except OSError:
            if not (store / name / version).exists():
                raise


def _publish_as(version: str, folder: Path, store: Path, compared: Sequence[Path]) -> Path:
    run, recipe = read_run(folder), (folder / RECIPE).read_text(encoding="utf-8")
    model_bytes, golden = (folder / MODEL).read_bytes(), read_golden(folder / GOLDEN)
    pictures = sorted((folder / PICTURES).glob("*.png"))
    check_place(store, run.name, run.task)
    store.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(run, version, model_bytes, golden)
    runs, names = [read_run(other) for other in compared], [picture.name for picture in pictures]
    stage = Path(tempfile.mkdtemp(prefix=".publish-", dir=store))
    try:
        staged = stage / run.name / version
        staged.mkdir(parents=True)
        (staged / MODEL).write_bytes(model_bytes)
        (staged / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        write_golden(staged / GOLDEN, golden)
        card = model_card(run, recipe, version, len(model_bytes), runs, names)
        (staged / "card.md").write_text(card, encoding="utf-8")
        for picture in pictures:
            shutil.copyfile(picture, staged / picture.name)
        load_version(staged)
        (store / run.name).mkdir(exist_ok=True)
        return staged.rename(store / run.name / version)  # fails where a folder with files came to be meanwhile
    finally:
        shutil.rmtree(stage)


def _manifest(run: Run, version: str, model_bytes: bytes, golden: Golden) -> Manifest:
    causal = "state" in golden.outputs
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=run.name,
        version=version,
        task=run.task,
        summary=run.summary,
        causal=causal,
        cell=run.cell,
        num_parameters=run.num_parameters,
        state_size=golden.outputs["state"].shape[1] if causal else 0,
        sha256=hashlib.sha256(model_bytes).hexdigest(),
        metrics=run.metrics,
        training_data=run.training_data,
        seed=run.seed,
        command=run.command,
        date=run.date,
        torch_version=torch.__version__,
        golden_tolerance=GoldenTolerance(),
        input=run.input,
        output=run.output,
    )


def _check_padding(module: torch.jit.ScriptModule, task: Task, golden: Golden) -> None:
    """Raises ModelRejected unless each golden row alone, without padding, is answered as in the batch."""
    name = FORWARD_OUTPUTS[task][0]
    for row, length in enumerate(golden.lengths):
        alone = torch.from_numpy(golden.chunk[row : row + 1, :length])
        with torch.inference_mode():
            answer = module(alone, torch.tensor([length]), *FORWARD_ARGUMENTS[task])
        found = answer[0] if isinstance(answer, tuple) else answer
        _compare(f"{name} of a clip alone and padded in a batch", found, golden.outputs[name][row : row + 1])


def _check_step_by_step(module: torch.jit.ScriptModule, golden: Golden, unit: int) -> None:
    """Raises ModelRejected unless stepping `unit` frames or samples at a time gives the golden outputs and state."""
    chunk, lengths = torch.from_numpy(golden.chunk), torch.from_numpy(golden.lengths)
    height, width = (chunk.shape[2], chunk.shape[3]) if chunk.ndim == 5 else (0, 0)
    with torch.inference_mode():
        state: Tensor = module.initial_state(chunk.shape[0], height, width)
        outputs: list[Tensor] = []
        for start in range(0, chunk.shape[1], unit):
            valid = (lengths - start).clamp(min=0, max=unit)
            answered, state = module.step(chunk[:, start : start + unit], valid, state)
            outputs.append(answered if isinstance(answered, Tensor) else answered[0])
    _compare("the state step by step", state, golden.outputs["state"])
    names = [name for name in ("now", "next_frames", "stepped") if name in golden.outputs]
    counts = golden.outputs.get("step_lengths", golden.lengths)
    whole = torch.cat(outputs, dim=1)
    for name in names:
        for row, count in enumerate(counts):
            _compare(f"{name} step by step", whole[row, :count], golden.outputs[name][row, :count])


def _compare(what: str, found: Tensor, expected: NDArray[Any]) -> None:
    difference = float(np.abs(found.numpy() - expected).max(initial=0.0))
    if not difference <= MAX_DIFFERENCE:  # also when it is NaN
        raise ModelRejected(f"{what}: answers differ by {difference:.3g}, more than {MAX_DIFFERENCE:g}")
