from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.robustness.mutations import made_files
from tests.server import RunningServer, running_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Small videos and sounds."""
    return made_files(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(scope="session")
def working_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `attacked` runs."""
    return tmp_path_factory.mktemp("working-folder")


@pytest.fixture(scope="session")
def attacked(store: Path, working_folder: Path) -> Iterator[RunningServer]:
    """A server that runs in `working_folder`."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(working_folder)
            patch.setenv("PYTHONPATH", str(ROOT))
            server = stack.enter_context(running_server(store))
        yield server


@pytest.fixture(scope="session")
def shipped_store() -> Path:
    """The models of this repository: what they cost is what users pay."""
    return ROOT / "model_store"


@pytest.fixture(scope="session")
def example() -> bytes:
    """Six seconds of video."""
    return (ROOT / "docs" / "example.mp4").read_bytes()


@pytest.fixture(scope="session")
def busy_server(shipped_store: Path) -> Iterator[RunningServer]:
    """For the short forms: it has few places and little patience, but refuses nobody for being slow itself."""
    few = {"max_requests": 8, "patience_seconds": 2, "max_wait_seconds": 600}
    with running_server(shipped_store, models="motion", **few) as running:
        yield running
