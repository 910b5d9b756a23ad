from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.media_maker import write_video
from tests.server import RunningServer, running_server
from tests.tiny_forecaster import write_forecaster
from tests.tiny_listeners import write_listeners
from tests.tiny_models import COLOURS, write_version
from tests.tiny_writer import write_writer

RATE = 12  # frames per second of the coloured videos


def coloured_frames(*colours: str, seconds: float = 2.0, width: int = 64, height: int = 48) -> np.ndarray:
    """(N, H, W, 3): each colour for `seconds`, a little brighter towards the end so that frames differ."""
    frames = []
    for colour in colours:
        for step in range(round(seconds * RATE)):
            frame = np.full((height, width, 3), 20, np.uint8)
            frame[:, :, COLOURS.index(colour)] = 150 + step
            frames.append(frame)
    return np.stack(frames)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of `tiny` (uniform), one of `tiny-rate`, `tiny-forecast`, three that listen, two that describe."""
    folder = tmp_path_factory.mktemp("store")
    write_version(folder, "tiny", "1")
    write_version(folder, "tiny", "2", seed=1)
    write_version(folder, "tiny-rate", "1", sampling="rate", width=40, height=40)
    write_forecaster(folder)
    write_listeners(folder)
    write_writer(folder)
    write_writer(folder, "tiny-writer-whole", sampling="uniform")
    return folder


@pytest.fixture(scope="session")
def server(store: Path) -> Iterator[RunningServer]:
    with running_server(store) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: RunningServer) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def red_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two red seconds."""
    path = tmp_path_factory.mktemp("media") / "red.mp4"
    write_video(path, coloured_frames("red"), RATE)
    return path


@pytest.fixture(scope="session")
def three_colour_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds each of green, blue and red."""
    path = tmp_path_factory.mktemp("media") / "colours.mp4"
    write_video(path, coloured_frames("green", "blue", "red", seconds=3.0), RATE)
    return path
