from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import RunningServer, running_server

ROOT = Path(__file__).parents[2]


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
    """For the short forms: it has few places and little patience."""
    with running_server(shipped_store, models="motion", max_requests=6, patience_seconds=2) as running:
        yield running
