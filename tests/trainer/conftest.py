from pathlib import Path

import pytest

from trainer.data.generators import MotionStyle, write_motion


@pytest.fixture(scope="session")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five classes of six short, small videos."""
    folder = tmp_path_factory.mktemp("data") / "motion"
    style = MotionStyle(width=64, height=48, min_seconds=0.8, max_seconds=1.2)
    assert len(list(write_motion(folder, 6, 0, style))) == 30
    return folder
