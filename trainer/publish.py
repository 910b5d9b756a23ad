"""A trained network into the model store: compiled, checked as the service checks it, written whole or not at all."""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.errors import ModelRejected
from app.models import torchscript
from app.models.golden import Golden, check_golden, read_golden, record_golden, write_golden
from app.models.manifest import SCHEMA_VERSION, GoldenTolerance, Manifest, Output
from app.models.store import list_versions, load_version
from trainer.card import model_card
from trainer.data.generators import MotionStyle, draw_motion
from trainer.run import RECIPE, Run, read_run

MODEL, GOLDEN = "model.pt", "golden.npz"
GOLDEN_SEED = 0
GOLDEN_LENGTHS = (6, 4)
"""Valid frames of each golden clip: one is padded."""
MAX_DIFFERENCE = 1e-5
"""Between eager and compiled, whole and in chunks, padded and alone: float32 sums in another order."""


def compile_network(network: nn.Module, width: int, height: int) -> torch.jit.ScriptModule:
    """The network compiled, before it is trained: what cannot be published is better known hours earlier.

    Raises ModelRejected as `save_compiled`, or RuntimeError for what TorchScript does not take.
    """
    scripted = torchscript.script(network)
    _checked(network, scripted, width, height)
    return scripted


def save_compiled(network: nn.Module, scripted: torch.jit.ScriptModule, width: int, height: int, folder: Path) -> bytes:
    """The content of `model.pt`: `scripted` with the weights of `network`. Written to `folder`, beside `golden.npz`.

    Compiling reads the source files, which by the end of a long training may be others: so it was done before.
    Raises ModelRejected unless both answer the same, to clips whole, in chunks, frame by frame, padded and alone.
    """
    scripted.load_state_dict(network.state_dict())
    model_bytes, golden = _checked(network, scripted, width, height)
    (folder / MODEL).write_bytes(model_bytes)
    write_golden(folder / GOLDEN, golden)
    return model_bytes


def publish(folder: Path, store: Path, compared: Sequence[Path] = ()) -> Path:
    """The folder of a new version in `store`, of the finished run in `folder`; its card compares the runs `compared`.

    Written beside the store's models, loaded and checked as the service does, and only then renamed into place; a
    version that exists is never touched. Raises ModelRejected, ValidationError for a folder that is not a run's, or
    OSError, also if another took the version's number meanwhile.
    """
    run, recipe = read_run(folder), (folder / RECIPE).read_text(encoding="utf-8")
    model_bytes, golden = (folder / MODEL).read_bytes(), read_golden(folder / GOLDEN)
    store.mkdir(parents=True, exist_ok=True)
    version = str(max(map(int, list_versions(store, run.name)), default=0) + 1)
    manifest = _manifest(run, version, model_bytes, golden)
    card = model_card(run, recipe, version, len(model_bytes), [read_run(other) for other in compared])
    stage = Path(tempfile.mkdtemp(prefix=".publish-", dir=store))
    try:
        staged = stage / run.name / version
        staged.mkdir(parents=True)
        (staged / MODEL).write_bytes(model_bytes)
        (staged / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        write_golden(staged / GOLDEN, golden)
        (staged / "card.md").write_text(card, encoding="utf-8")
        load_version(staged)
        (store / run.name).mkdir(exist_ok=True)
        return staged.rename(store / run.name / version)  # fails where a folder with files came to be meanwhile
    finally:
        shutil.rmtree(stage)


def _checked(network: nn.Module, scripted: torch.jit.ScriptModule, width: int, height: int) -> tuple[bytes, Golden]:
    golden = record_golden(network.eval(), _golden_frames(width, height), np.array(GOLDEN_LENGTHS))
    model_bytes = torchscript.save(scripted)
    module = torchscript.load(model_bytes)
    check_golden(module, golden, MAX_DIFFERENCE)
    _check_padding(module, golden)
    _check_frame_by_frame(module, golden)
    return model_bytes, golden


def _manifest(run: Run, version: str, model_bytes: bytes, golden: Golden) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        name=run.name,
        version=version,
        task=run.task,
        summary=run.summary,
        causal=True,
        cell=run.cell,
        num_parameters=run.num_parameters,
        state_size=golden.state.shape[1],
        sha256=hashlib.sha256(model_bytes).hexdigest(),
        metrics={split: evaluation.metrics() for split, evaluation in run.evaluations.items()},
        training_data=run.training_data,
        seed=run.seed,
        command=run.command,
        date=run.date,
        torch_version=torch.__version__,
        golden_tolerance=GoldenTolerance(),
        input=run.input,
        output=Output(labels=run.labels),
    )


def _golden_frames(width: int, height: int) -> NDArray[np.uint8]:
    """(B, T, H, W, 3): drawn, so that no frame of anyone's data is handed on with the model."""
    style = MotionStyle(width=width, height=height, max_speed=2.0)
    clips = []
    for index, label in enumerate(("right", "up")[: len(GOLDEN_LENGTHS)]):
        video = draw_motion(label, 8, style, np.random.default_rng((GOLDEN_SEED, index)))
        clips.append(np.stack([next(video) for _ in range(max(GOLDEN_LENGTHS))]))
    return np.stack(clips)


def _check_padding(module: torch.jit.ScriptModule, golden: Golden) -> None:
    for index, length in enumerate(golden.lengths):
        alone = torch.from_numpy(golden.frames[index : index + 1, :length])
        with torch.inference_mode():
            logits = module(alone, torch.tensor([length]))
        _compare("a clip alone and padded in a batch", logits, golden.logits[index : index + 1])


def _check_frame_by_frame(module: torch.jit.ScriptModule, golden: Golden) -> None:
    frames = torch.from_numpy(golden.frames)
    num_clips, num_steps, height, width = frames.shape[:4]
    with torch.inference_mode():
        state = module.initial_state(num_clips, height, width)
        for step in range(num_steps):
            valid = torch.from_numpy((golden.lengths > step).astype(np.int64))
            (now, so_far), state = module.step(frames[:, step : step + 1], valid, state)
            rows = golden.lengths > step
            _compare("now frame by frame", now[rows, 0], golden.now[rows, step])
            _compare("so_far frame by frame", so_far[rows, 0], golden.so_far[rows, step])
    _compare("the state frame by frame", state, golden.state)


def _compare(what: str, found: torch.Tensor, expected: NDArray[np.float32]) -> None:
    difference = float(np.abs(found.numpy() - expected).max(initial=0.0))
    if not difference <= MAX_DIFFERENCE:  # also when it is NaN
        raise ModelRejected(f"{what}: answers differ by {difference:.3g}, more than {MAX_DIFFERENCE:g}")
