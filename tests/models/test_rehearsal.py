"""Versions tried in a process of their own."""

import asyncio
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.errors import ModelRejected
from app.models.rehearsal import _load, rehearse
from app.models.store import load_version
from app.models.warm_up import first_works
from app.models.work import run_works
from tests.tiny_models import AroundTiny, write_version


class Peculiar(AroundTiny):
    """A classifier that prints, and if it is endless never answers to more frames than its golden input has."""

    def __init__(self, is_endless: bool = False) -> None:
        super().__init__()
        self.is_endless = is_endless

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        print("a line on stdout")  # noqa: T201
        return self.inner(frames, lengths)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        while self.is_endless and chunk.shape[1] > 20:
            chunk = chunk + 1
        return self.inner.step(chunk, lengths, state)


def children() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_what_is_rehearsed_answers_as_what_is_loaded(tmp_path: Path) -> None:
    folder = write_version(tmp_path, module=Peculiar())
    loaded, rehearsed = load_version(folder), asyncio.run(rehearse(folder))
    assert (rehearsed.manifest, rehearsed.digest, rehearsed.card) == (loaded.manifest, loaded.digest, loaded.card)
    for mine, other in zip(first_works(loaded), first_works(rehearsed), strict=True):
        [answers], [state] = run_works([mine])
        [same_answers], [same_state] = run_works([other])
        assert all(torch.equal(*pair) for pair in zip(answers, same_answers, strict=True))
        assert state is same_state is None or torch.equal(state, same_state)


def test_the_reason_is_told(tmp_path: Path) -> None:
    folder = write_version(tmp_path)
    (folder / "model.pt").write_bytes(b"something else")
    with pytest.raises(ModelRejected, match=r"tiny/1: model.pt has the sha256"):
        asyncio.run(rehearse(folder))


def test_one_that_comes_to_no_end_costs_nobody_anything(tmp_path: Path) -> None:
    folder = write_version(tmp_path, module=Peculiar(is_endless=True))
    before = children()
    with pytest.raises(ModelRejected, match="took longer than 5 s"):
        asyncio.run(rehearse(folder, patience_seconds=5.0))
    assert children() <= before


def test_one_whose_process_is_killed_is_not_rejected(tmp_path: Path) -> None:
    folder = write_version(tmp_path, module=Peculiar(is_endless=True))
    before = children()

    def kill() -> None:
        while not (new := children() - before):
            time.sleep(0.01)
        for child in new:
            os.kill(int(child), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ChildProcessError, match="died of signal 9"):
        asyncio.run(rehearse(folder))
    killer.join()


def test_what_cannot_be_loaded_again_is_rejected(tmp_path: Path) -> None:
    manifest = (write_version(tmp_path) / "manifest.json").read_text()
    facts = {"manifest": manifest, "digest": "", "card": "", "precision": "float32"}
    with pytest.raises(ModelRejected, match="it cannot be loaded"):
        _load(json.dumps(facts).encode() + b"\nno module", torch.device("cpu"))
