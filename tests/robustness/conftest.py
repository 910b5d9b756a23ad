from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shipped_store() -> Path:
    """The models of this repository: what they cost is what users pay."""
    return ROOT / "model_store"


@pytest.fixture(scope="session")
def example() -> bytes:
    """Six seconds of video."""
    return (ROOT / "docs" / "example.mp4").read_bytes()
