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
