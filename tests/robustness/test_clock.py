"""A wall clock that is set forward and back by years: only what is about dates notices."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.media_maker import moving_frames
from tests.server import RunningServer, running_server
from tests.streaming import picture

SOURCE = Path(__file__).with_name("jumping_clock.c")
DAY, YEAR = 24 * 3600, 365 * 24 * 3600
UPLOAD_SECONDS = 1.5


@pytest.fixture(scope="module")
def offset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says by how many seconds the clock of `jumpy` is wrong."""
    path = tmp_path_factory.mktemp("clock") / "offset"
    path.write_bytes(bytes(8))
    return path


@pytest.fixture(scope="module")
def jumpy(store: Path, offset: Path) -> Iterator[RunningServer]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = offset.with_name("clock.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("CLOCK_OFFSET", str(offset))
        with running_server(store, patience_seconds=2, deadline_seconds=20) as server:
            patch.delenv("LD_PRELOAD")
            yield server


@pytest.fixture
def jump(offset: Path) -> Iterator[Callable[[int], None]]:
    """Makes the clock wrong by so many seconds until the test ends."""

    def by(seconds: int) -> None:
        with offset.open("r+b") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

    yield by
    by(0)


def slowly(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), len(content) // 10 + 1):
        time.sleep(UPLOAD_SECONDS / 10)
        yield content[start : start + len(content) // 10 + 1]


@pytest.mark.parametrize("seconds", [YEAR, -YEAR])
def test_who_is_being_answered_notices_nothing(
    jumpy: RunningServer, jump: Callable[[int], None], red_video: Path, seconds: int
) -> None:
    video = red_video.read_bytes()
    with jumpy.client() as client, ThreadPoolExecutor() as threads:
        arriving = threads.submit(client.post, "/classify", content=slowly(video))
        jumpy.wait_for_metric("afterframe_uploads_arriving", 1)
        with jumpy.workers_stopped():
            held = threads.submit(client.post, "/classify", content=video)
            jumpy.wait_for_metric("afterframe_requests_in_flight", 1)
            jump(seconds)
        answers = [held.result(), arriving.result(), client.post("/classify", content=video)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert all(0 < answer.json()["timing"]["total_seconds"] < 20 for answer in answers)
    year = time.gmtime(time.time() + seconds).tm_year
    assert jumpy.line(answers[-1].headers["x-request-id"])["time"].startswith(str(year))  # it was in another one


def test_a_state_lasts_as_long_as_the_clock_says(jumpy: RunningServer, jump: Callable[[int], None]) -> None:
    frame = picture(moving_frames(1)[0])

    def step(client: httpx.Client, state: str | None = None) -> httpx.Response:
        url = "/stream/steps?model=tiny-rate"
        return client.post(url, files={"picture": frame}, data={"state": state} if state else {})

    with jumpy.client() as client:
        state = step(client).json()["state"]
        statuses = {}
        for days in (0, 2, -2):
            jump(days * DAY)
            statuses[days] = step(client, state).status_code
    assert statuses == {0: 200, 2: 401, -2: 200}
