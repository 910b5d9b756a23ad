"""Versions that are put into the model store, or taken out of it, while the service runs."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from app.errors import ModelRejected
from app.models.store import ModelStore, Selection, ServedModel

MAX_PAUSE_LOOKS = 256  # three quarters of an hour, as it is set

logger = logging.getLogger(__name__)

_Version = tuple[str, str]
"""Name, version."""
_Signature = frozenset[tuple[str, int, int, int]]
"""Name, inode, size and time of change of each file of a version."""


class StoreWatcher:
    """Serves new versions once they are checked and warm, and none that is not what it claims.

    A folder that has changed since the last look is left alone until the next: somebody may still be writing it. A
    version is never overwritten; if one is all the same, what was loaded before is still served.
    """

    def __init__(
        self,
        path: Path,
        selection: Selection,
        store: ModelStore,
        load: Callable[[Path], Awaitable[ServedModel]],
        on_change: Callable[[], None],
    ) -> None:
        """`store` is what was opened at `path`; `on_change` is called whenever what it serves has changed.

        `load` gives the version in a folder, checked and warm. It raises ModelRejected for one that may not be served,
        and OSError where it could not find out: then it is called again, after longer and longer pauses.
        """
        self.faults: dict[str, str] = {}
        """What in the store is not served, or not what is served, and why."""
        self.outcomes: Counter[str] = Counter()
        """Versions by what became of them: loaded, rejected, retired."""
        self._path = path
        self._selection = selection
        self._store = store
        self._load = load
        self._on_change = on_change
        self._served = {
            (model.manifest.name, model.manifest.version): _signature(path, model.manifest.name, model.manifest.version)
            for model in store.models()
        }
        self._seen: dict[_Version, _Signature] = {}  # of what is not served, at the last look
        self._pauses: dict[_Version, tuple[int, int]] = {}  # looks until the next try; until the one after it

    @asynccontextmanager
    async def looking(self, seconds: float) -> AsyncIterator[None]:
        """While the context lasts, looks every so many seconds; never if that is 0."""
        looks = asyncio.create_task(self._look_for_ever(seconds)) if seconds else None
        try:
            yield
        finally:
            if looks is not None:
                looks.cancel()
                await asyncio.wait([looks])

    async def _look_for_ever(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.look()
            except Exception as error:  # the edge of the task: no version may end it
                logger.exception("a look at the model store failed; the next one is in %g s", seconds)
                self.faults["the model store"] = f"a look at it failed: {type(error).__name__}"

    async def look(self) -> None:
        """Loads what is new, retires what is gone, reports what is wrong."""
        try:
            found = await asyncio.to_thread(self._find)
        except (ModelRejected, OSError) as error:
            self._report("the model store", str(error))
            return
        self.faults.pop("the model store", None)
        for version, signature in found.items():
            if version in self._served:
                self._compare(version, signature)
            elif self._seen.get(version) != signature:
                self._forget(version)
                self._seen[version] = signature
            elif self._is_due(version):
                await self._try(version, signature)
        for version in sorted(self._served.keys() - found.keys(), key=lambda version: int(version[1])):
            self._retire(version)
        for version in self._seen.keys() - found.keys():
            self._forget(version)

    def _find(self) -> dict[_Version, _Signature]:
        return {version: _signature(self._path, *version) for version in self._selection.find(self._path)}

    def _forget(self, version: _Version) -> None:
        """Drops all that is noted about a version that is not served."""
        self._seen.pop(version, None)
        self._pauses.pop(version, None)
        self.faults.pop(_text(version), None)

    def _is_due(self, version: _Version) -> bool:
        if version not in self._pauses:
            return _text(version) not in self.faults
        left, following = self._pauses[version]
        self._pauses[version] = left - 1, following
        return left == 1

    async def _try(self, version: _Version, signature: _Signature) -> None:
        try:
            model = await self._load(self._path.joinpath(*version))
            self._serve([*self._store.models(), model], "loaded")
        except ModelRejected as error:
            self._pauses.pop(version, None)
            self.outcomes["rejected"] += 1
            self._report(_text(version), str(error))
        except OSError as error:  # no process or no memory for it; there may be later
            _, pause = self._pauses.get(version, (0, 1))
            self._pauses[version] = pause, min(2 * pause, MAX_PAUSE_LOOKS)
            self.faults[_text(version)] = str(error)
            logger.error("%s: %s; it is tried again, %d looks from now", _text(version), error, pause)
        else:
            self._forget(version)
            self._served[version] = signature
            logger.info("%s is served now, sha256 %s", _text(version), model.digest)

    def _compare(self, version: _Version, signature: _Signature) -> None:
        if signature == self._served[version]:
            self.faults.pop(_text(version), None)
        else:
            self._report(_text(version), "it was changed in the store; what was loaded before is still served")

    def _retire(self, version: _Version) -> None:
        """Takes a version that is gone from the store out of service, unless it is the last of its name."""
        name, number = version
        if len(self._store.versions(name)) == 1:
            self._report(_text(version), "it is gone from the store; as the last of its name it is still served")
            return
        del self._served[version]
        self.faults.pop(_text(version), None)
        left = [m for m in self._store.models() if (m.manifest.name, m.manifest.version) != version]
        self._serve(left, "retired")
        logger.info("%s version %s is gone from the store and is not served any more", name, number)

    def _serve(self, models: list[ServedModel], outcome: str) -> None:
        self._store.replace(models)
        self.outcomes[outcome] += 1
        self._on_change()

    def _report(self, what: str, reason: str) -> None:
        if self.faults.get(what) != reason:
            logger.error("%s: %s", what, reason)
            self.faults[what] = reason


def _text(version: _Version) -> str:
    return f"model {version[0]} version {version[1]}"


def _signature(path: Path, name: str, version: str) -> _Signature:
    files = [(file.name, file.stat()) for file in (path / name / version).iterdir()]
    return frozenset((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in files)
