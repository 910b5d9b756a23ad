"""A model store that changes while it is served."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.errors import ModelRejected
from app.models.reload import StoreWatcher
from app.models.store import ModelStore, Selection, ServedModel, load_version, open_store
from tests.tiny_forecaster import write_forecaster
from tests.tiny_models import AroundTiny, write_version


class ReadsAFile(AroundTiny):
    """A classifier that opens a file when it is run."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return self.inner(frames, lengths) + torch.from_file(self.path, shared=False, size=1).sum() * 0.0


async def load(folder: Path) -> ServedModel:
    """In this process, which takes less time than another one (`test_rehearsal`)."""
    return load_version(folder)


class Watched:
    """A store with version 1 of `tiny`, and who watches it."""

    def __init__(self, path: Path, *names: str) -> None:
        self.path = path
        write_version(path)
        self.changes = 0
        self.store = open_store(path, names or None)
        self.watcher = StoreWatcher(path, Selection(names), self.store, load, self._count)

    def _count(self) -> None:
        self.changes += 1

    @property
    def newest(self) -> str:
        return self.store.get("tiny").manifest.version


def run(watched: Watched, test: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with watched.watcher.looking(0):  # `test` looks itself
            await test()

    asyncio.run(main())


def test_a_new_version_is_served_once_it_has_settled(tmp_path: Path) -> None:
    watched = Watched(tmp_path)

    async def test() -> None:
        first = watched.store.get("tiny")
        await watched.watcher.look()
        write_version(tmp_path, version="2", seed=1)
        await watched.watcher.look()
        assert watched.newest == "1"  # it may still be written
        await watched.watcher.look()
        assert watched.newest == "2"
        assert watched.store.versions("tiny") == ["1", "2"]
        assert watched.store.get("tiny", "1") is first
        assert (watched.changes, watched.watcher.outcomes, watched.watcher.faults) == (1, {"loaded": 1}, {})

    run(watched, test)


def test_a_new_model_is_served_too(tmp_path: Path) -> None:
    watched = Watched(tmp_path)

    async def test() -> None:
        write_version(tmp_path, "other")
        await watched.watcher.look()
        await watched.watcher.look()
        assert watched.store.names() == ["other", "tiny"]

    run(watched, test)


def test_what_is_written_in_pieces_is_served_when_it_is_whole(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    whole = write_version(tmp_path.with_name("elsewhere"), version="2")
    model_bytes = (whole / "model.pt").read_bytes()

    async def test() -> None:
        folder = tmp_path / "tiny" / "2"
        folder.mkdir()
        for file in ("manifest.json", "card.md", "golden.npz"):
            shutil.copy(whole / file, folder)
            await watched.watcher.look()
        for share in (0.3, 0.6):
            (folder / "model.pt").write_bytes(model_bytes[: int(len(model_bytes) * share)])
            await watched.watcher.look()
            assert not watched.watcher.faults
        await watched.watcher.look()  # it has rested for a while: now it is tried
        assert "sha256" in watched.watcher.faults["model tiny version 2"]
        await watched.watcher.look()
        assert watched.watcher.outcomes == {"rejected": 1}  # not again, as it is
        assert watched.newest == "1"
        (folder / "model.pt").write_bytes(model_bytes)
        await watched.watcher.look()
        await watched.watcher.look()
        assert (watched.newest, watched.watcher.faults) == ("2", {})

    run(watched, test)


def test_a_model_that_opens_files_is_not_served(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    numbers = tmp_path.with_name("numbers")
    numbers.write_bytes(bytes(16))

    async def test() -> None:
        write_version(tmp_path, version="2", module=ReadsAFile(str(numbers)))
        await watched.watcher.look()
        await watched.watcher.look()
        assert "calls from_file" in watched.watcher.faults["model tiny version 2"]
        assert watched.newest == "1"
        shutil.rmtree(tmp_path / "tiny" / "2")
        await watched.watcher.look()
        assert watched.watcher.faults == {}

    run(watched, test)


def test_a_version_for_another_task_takes_no_name_over(tmp_path: Path) -> None:
    watched = Watched(tmp_path)

    async def test() -> None:
        write_forecaster(tmp_path, "tiny", version="2")
        await watched.watcher.look()
        await watched.watcher.look()
        assert "tiny is for classify, but its version 2 for predict" in watched.watcher.faults["model tiny version 2"]
        assert watched.store.get(task="classify").manifest.version == "1"
        assert (watched.changes, watched.watcher.outcomes) == (0, {"rejected": 1})

    run(watched, test)


@pytest.mark.parametrize("file", ["model.pt", "manifest.json", "golden.npz", "card.md"])
def test_a_version_that_is_overwritten_goes_on_as_it_was(tmp_path: Path, file: str) -> None:
    watched = Watched(tmp_path)

    async def test() -> None:
        served = watched.store.get("tiny")
        path = tmp_path / "tiny" / "1" / file
        path.write_bytes(path.read_bytes() + b" ")
        for _ in range(3):
            await watched.watcher.look()
        assert watched.store.get("tiny") is served
        assert "was changed" in watched.watcher.faults["model tiny version 1"]
        assert watched.watcher.outcomes == {}

    run(watched, test)


def test_a_version_that_is_taken_away_is_retired(tmp_path: Path) -> None:
    write_version(tmp_path, version="2", seed=1)
    watched = Watched(tmp_path)

    async def test() -> None:
        assert watched.newest == "2"
        shutil.rmtree(tmp_path / "tiny" / "2")
        await watched.watcher.look()
        assert (watched.newest, watched.store.versions("tiny")) == ("1", ["1"])
        assert (watched.changes, watched.watcher.outcomes) == (1, {"retired": 1})
        shutil.rmtree(tmp_path / "tiny" / "1")
        await watched.watcher.look()
        assert watched.newest == "1"
        assert "last of its name" in watched.watcher.faults["model tiny version 1"]

    run(watched, test)


def test_where_all_versions_are_taken_away_at_once_the_newest_is_kept(tmp_path: Path) -> None:
    for number in range(2, 12):
        write_version(tmp_path, version=str(number))
    watched = Watched(tmp_path)

    async def test() -> None:
        shutil.rmtree(tmp_path / "tiny")
        await watched.watcher.look()
        assert watched.store.versions("tiny") == ["11"]
        assert list(watched.watcher.faults) == ["model tiny version 11"]

    run(watched, test)


def test_a_pinned_version_stays_the_only_one(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "tiny@1")

    async def test() -> None:
        write_version(tmp_path, version="2", seed=1)
        for _ in range(3):
            await watched.watcher.look()
        assert watched.store.versions("tiny") == ["1"]
        assert watched.watcher.faults == {}

    run(watched, test)


def test_a_store_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path)

    async def test() -> None:
        (tmp_path / "Stray").mkdir()
        await watched.watcher.look()
        assert "a folder here must be" in watched.watcher.faults["the model store"]
        assert watched.newest == "1"
        (tmp_path / "Stray").rmdir()
        await watched.watcher.look()
        assert watched.watcher.faults == {}
        shutil.move(tmp_path, tmp_path.with_name("away"))
        await watched.watcher.look()
        assert "no such model store" in watched.watcher.faults["the model store"]
        assert watched.newest == "1"

    run(watched, test)


def test_a_trial_that_was_killed_is_made_again_after_longer_and_longer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_version(tmp_path)
    store, tried, look = open_store(tmp_path), [], 0

    async def load_at_last(folder: Path) -> ServedModel:
        tried.append(look)
        if len(tried) < 5:
            raise ChildProcessError("the process that checked it died of signal 9")
        return load_version(folder)

    async def test() -> None:
        nonlocal look
        watcher = StoreWatcher(tmp_path, Selection(), store, load_at_last, lambda: None)
        write_version(tmp_path, "other")
        for look in range(16):
            await watcher.look()
            assert ("model other version 1" in watcher.faults) == (look > 0)
        assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 4
        look = 16
        await watcher.look()
        assert (store.names(), watcher.faults, watcher.outcomes) == (["other", "tiny"], {}, {"loaded": 1})

    asyncio.run(test())
    assert tried == [1, 2, 4, 8, 16]


def test_a_trial_that_was_killed_may_still_be_refused_and_then_is_not_made_again(tmp_path: Path) -> None:
    num_tried = 0

    async def load(folder: Path) -> ServedModel:
        nonlocal num_tried
        num_tried += 1
        raise ChildProcessError("killed") if num_tried == 1 else ModelRejected("no model")

    async def test() -> None:
        watcher = StoreWatcher(tmp_path, Selection(), ModelStore([]), load, lambda: None)
        write_version(tmp_path)
        for _ in range(20):
            await watcher.look()
        assert (num_tried, watcher.faults) == (2, {"model tiny version 1": "no model"})
        (tmp_path / "tiny" / "1" / "card.md").write_text("another")
        await watcher.look()
        assert watcher.faults == {}
        await watcher.look()
        assert (num_tried, watcher.outcomes) == (3, {"rejected": 2})

    asyncio.run(test())


def test_a_look_that_fails_is_not_the_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_version(tmp_path)
    store, loads, loaded = open_store(tmp_path), 0, asyncio.Event()

    async def load_at_last(folder: Path) -> ServedModel:
        nonlocal loads
        loads += 1
        if loads == 1:
            raise RuntimeError("an error of our own")
        return load_version(folder)

    async def test() -> None:
        watcher = StoreWatcher(tmp_path, Selection(), store, load_at_last, loaded.set)
        async with watcher.looking(0.01):
            write_version(tmp_path, "other")
            async with asyncio.timeout(30):
                await loaded.wait()
        assert store.names() == ["other", "tiny"]

    asyncio.run(test())
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info is not None
    assert "an error of our own" in str(record.exc_info[1])


def test_a_look_that_fails_is_a_fault_for_whoever_runs_the_service(tmp_path: Path) -> None:
    tried = asyncio.Event()

    async def load(folder: Path) -> ServedModel:
        tried.set()
        raise RuntimeError("an error of our own")

    async def test() -> None:
        watcher = StoreWatcher(tmp_path, Selection(), ModelStore([]), load, lambda: None)
        async with watcher.looking(0.01), asyncio.timeout(30):
            write_version(tmp_path, "other")
            await tried.wait()
            assert watcher.faults == {"the model store": "a look at it failed: RuntimeError"}

    asyncio.run(test())
