"""Models that are not what they claim, put into the store of a running service."""

import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from app.errors import ModelRejected
from app.models.store import load_version
from tests.models.test_reload import ReadsAFile
from tests.robustness import scale
from tests.server import RunningServer, running_server
from tests.tiny_models import write_version

POLL_SECONDS = 0.1
LOADED = 8  # versions of a shipped model
SHIPPED = Path(__file__).parents[2] / "model_store" / "actions"
Damage = Callable[[Path, random.Random], None]


def flip(folder: Path, chance: random.Random) -> None:
    """Four bits, as a bad disk would."""
    model_bytes = bytearray((folder / "model.pt").read_bytes())
    for _ in range(4):
        model_bytes[chance.randrange(len(model_bytes))] ^= 1 << chance.randrange(8)
    (folder / "model.pt").write_bytes(model_bytes)


def cut(folder: Path, chance: random.Random) -> None:
    model_bytes = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(model_bytes[: chance.randrange(len(model_bytes))])


def leave_out(folder: Path, chance: random.Random) -> None:
    (folder / chance.choice(("model.pt", "manifest.json", "golden.npz", "card.md"))).unlink()


def change_hash(folder: Path, _: random.Random) -> None:
    edit(folder, sha256="0" * 64)


def swap_golden(folder: Path, _: random.Random) -> None:
    """What another network answered."""
    other = write_version(folder.parents[1].with_name("other"), version=f"{time.monotonic_ns() % 10**8 + 1}", seed=5)
    shutil.copy(other / "golden.npz", folder / "golden.npz")


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = (flip, cut, leave_out, change_hash, swap_golden)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with one version of `tiny`."""
    write_version(tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def changing(path: Path) -> Iterator[RunningServer]:
    """A server that looks at `path` often."""
    with running_server(path, model_poll_seconds=POLL_SECONDS) as server:
        yield server


def served(client: httpx.Client, name: str = "tiny") -> list[str]:
    return [version["version"] for version in client.get(f"/models/{name}").json()["versions"]]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < end
        time.sleep(POLL_SECONDS / 2)


def refuse_damaged(server: RunningServer, path: Path, video: bytes, damages: list[Damage]) -> None:
    """Each is reported, none served; the version from before answers all the while."""
    chance = random.Random(scale.SEED)
    with server.client() as client:
        digest = client.get("/models/tiny").json()["versions"][0]["digest"]
        for number, damage in enumerate(damages, start=2):
            folder = write_version(path.with_name("made"), version=str(number), seed=number)
            damage(folder, chance)
            shutil.move(folder, path / "tiny" / str(number))
            wait_for(lambda: client.get("/health/ready").json()["status"] == "degraded")
            answer = client.post("/classify", content=video)
            assert answer.json()["results"][0]["model"]["digest"] == digest
            assert served(client) == ["1"]
            shutil.rmtree(path / "tiny" / str(number))
            wait_for(lambda: client.get("/health/ready").json()["status"] == "ready")
        outcomes = [
            line for line in client.get("/metrics").text.splitlines() if line.startswith("afterframe_model_vers")
        ]
    assert outcomes == [f'afterframe_model_versions_total{{outcome="rejected"}} {len(damages)}.0']


def test_a_good_version_is_served_between_two_requests(changing: RunningServer, path: Path, red_video: Path) -> None:
    video = red_video.read_bytes()
    with changing.client() as client:
        folder = write_version(path.with_name("made"), version="2", seed=1)
        shutil.move(folder, path / "tiny" / "2")
        digests = []
        while len(set(digests)) < 2:
            answer = client.post("/classify", content=video)
            assert answer.status_code == 200
            digests.append(answer.json()["results"][0]["model"]["digest"])
        assert digests == sorted(digests, key=digests.index)  # never back again
        assert served(client) == ["2", "1"]
        old = client.post("/classify?model=tiny&version=1", content=video).json()["results"][0]["model"]
        assert (old["version"], old["digest"]) == ("1", digests[0])
        assert client.get("/health/ready").json() == {"status": "ready", "faults": []}
        assert 'version="2"' in client.get("/metrics").text


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_every_damage(changing: RunningServer, path: Path, red_video: Path) -> None:
    refuse_damaged(changing, path, red_video.read_bytes(), [*DAMAGES] * 4)


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_flipped_bits(tmp_path: Path) -> None:
    """Each set of flips is refused by the hash; without it, nearly all would have answered something else."""
    chance = random.Random(scale.SEED)
    whole = write_version(tmp_path / "whole")
    refused = 0
    for number in range(scale.FLIPS):
        folder = shutil.copytree(whole, tmp_path / str(number) / "tiny" / "1")
        flip(folder, chance)
        with pytest.raises(ModelRejected, match="sha256"):
            load_version(folder)
        refused += 1
    print(f"{refused} of {scale.FLIPS} refused")


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_a_model_that_opens_files(changing: RunningServer, path: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    numbers.write_bytes(bytes(16))
    module = ReadsAFile(str(numbers))
    folder = write_version(path.with_name("made"), version="2", module=module)
    shutil.move(folder, path / "tiny" / "2")
    with changing.client() as client:
        wait_for(lambda: client.get("/health/ready").json()["status"] == "degraded")
        assert served(client) == ["1"]


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_latencies_while_models_are_loaded(path: Path, red_video: Path) -> None:
    """Nobody waits for it that versions of a shipped model come in.

    Who did would wait for most of what one takes to come, on any machine.
    """
    video = red_video.read_bytes()
    settings = {"model_poll_seconds": POLL_SECONDS, "deadline_seconds": 600}
    with running_server(path, **settings) as server, httpx.Client(base_url=server.url, timeout=900) as client:
        quiet = latencies(client, video, lambda: time.sleep(20))
        began = time.perf_counter()
        busy = latencies(client, video, lambda: add_versions(server, path, LOADED))
        each = (time.perf_counter() - began) / LOADED
    for name, seconds in (("quiet", quiet), ("loading", busy)):
        p50, p99 = np.percentile(seconds, [50, 99])
        print(f"{name}: {len(seconds)} requests, p50 {p50:.3f} s, p99 {p99:.3f} s, at most {max(seconds):.3f} s")
    print(f"{LOADED} versions came in within {each:.2f} s each")
    assert max(busy) < each / 2


def latencies(client: httpx.Client, video: bytes, work: Callable[[], None]) -> list[float]:
    """Of requests, one after the other, for as long as `work` takes."""
    seconds: list[float] = []
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        began = time.perf_counter()
        assert client.post("/classify?model=tiny", content=video).status_code == 200
        seconds.append(time.perf_counter() - began)
        time.sleep(0.02)
    thread.join()
    return seconds


def add_versions(server: RunningServer, path: Path, count: int) -> None:
    [shipped, *_] = SHIPPED.iterdir()
    for number in range(1, count + 1):
        folder = shutil.copytree(shipped, path.with_name(f"next-{number}"))
        edit(folder, version=str(number))
        (path / "actions").mkdir(exist_ok=True)
        shutil.move(folder, path / "actions" / str(number))
        served_now = f"model actions version {number} is served now"
        wait_for(lambda: any(served_now in line["message"] for line in server.lines))  # noqa: B023  it is called at once
