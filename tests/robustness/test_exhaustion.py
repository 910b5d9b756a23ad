"""Nothing left of something: a problem for who asks then, and the service goes on once there is more."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.media_maker import moving_frames, write_video
from tests.robustness.processes import decoders
from tests.server import RunningServer, running_server
from tests.tiny_models import write_version

STORAGE_BYTES = 4 << 20


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path_factory.mktemp("storage")
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STORAGE_BYTES}", "none", folder]).returncode
    ):
        pytest.skip("needs to be allowed to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def small(store: Path, storage: Path) -> Iterator[RunningServer]:
    """A server whose uploads lie in `storage`."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(storage))
            server = stack.enter_context(running_server(store))
        yield server


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", moving_frames(20), 10).read_bytes()


def check_refusal(server: RunningServer, content: bytes, statuses: set[int], title: str) -> None:
    """As a raw body and as a form; the log has a line for each."""
    with server.client() as client:
        for upload in ({"content": content}, {"files": {"file": content}}):
            answer = client.post("/classify", **upload)  # type: ignore[arg-type]
            assert answer.status_code in statuses, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["title"] == title
            assert "/" not in answer.json()["detail"]


def check_recovery(server: RunningServer, video: bytes) -> None:
    with server.client() as client:
        assert client.post("/classify", content=video).status_code == 200
        assert client.post("/classify", files={"file": video}).status_code == 200
        assert client.get("/health/ready").status_code == 200
    assert server.process.poll() is None


def wait_for_health(client: httpx.Client, health: dict[str, Any]) -> None:
    end = time.monotonic() + 60
    while (answer := client.get("/health/ready").json()) != health:
        assert time.monotonic() < end, answer
        time.sleep(0.1)


@contextmanager
def few_file_handles(server: RunningServer, num_free: int) -> Iterator[None]:
    """The server can open so many while the context lasts."""
    pid = server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name.name) for name in Path(f"/proc/{pid}/fd").iterdir()}
    limit = next(islice((number for number in count() if number not in taken), num_free, None))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def test_a_full_disk(small: RunningServer, storage: Path, video: bytes) -> None:
    check_refusal(small, video + bytes(2 * STORAGE_BYTES), {507}, "Out of storage")
    assert not [path for path in storage.iterdir() if path.is_file()]
    (storage / "filler").write_bytes(bytes(STORAGE_BYTES - 8192))
    check_refusal(small, video + bytes(2 << 20), {507}, "Out of storage")
    (storage / "filler").unlink()
    check_recovery(small, video)


def test_storage_that_cannot_be_written_to(small: RunningServer, storage: Path, video: bytes) -> None:
    subprocess.run(["mount", "-o", "remount,bind,ro", storage], check=True)
    try:
        check_refusal(small, video + bytes(2 << 20), {507}, "Out of storage")
    finally:
        subprocess.run(["mount", "-o", "remount,bind,rw", storage], check=True)
    check_recovery(small, video)


def test_no_file_handles(small: RunningServer, video: bytes) -> None:
    with small.client() as client:
        client.get("/health/live")  # its connection is kept
        with few_file_handles(small, 0):
            answer = client.post("/classify", content=video)
    assert (answer.status_code, answer.json()["title"]) == (503, "Out of resources")
    check_recovery(small, video)


def test_no_file_handles_for_the_next_decoders(store: Path, video: bytes) -> None:
    with running_server(store, decoder_workers=1, arriving_workers=0, deadline_seconds=3) as server:
        workers = decoders(server.process.pid)
        fault = f"decoder workers that were lost and cannot be replaced: {len(workers)}"
        with server.client() as client:
            client.get("/health/live")  # its connection is kept
            with few_file_handles(server, 3):  # for the upload, not for a process as well, which takes seven
                for pid in workers:
                    os.kill(pid, signal.SIGKILL)
                wait_for_health(client, {"status": "degraded", "faults": [fault]})
                assert "\nafterframe_decoder_workers 0.0\n" in client.get("/metrics").text
                assert client.post("/classify", content=video).status_code == 504
            wait_for_health(client, {"status": "ready", "faults": []})
            assert "\nafterframe_decoder_workers 1.0\n" in client.get("/metrics").text
        check_recovery(server, video)


def test_no_memory(tmp_path: Path, video: bytes) -> None:
    """Not for the frames (22 MB), or not for what a model makes of them (88 MB in float32)."""
    write_version(tmp_path, width=1280, height=720)
    with running_server(tmp_path) as server, server.client() as client:
        check_recovery(server, video)
        pid = server.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_AS)
        for spare_bytes in (8 << 20, 64 << 20):
            taken = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(pid, resource.RLIMIT_AS, (taken + spare_bytes, limits[1]))
            try:
                answers = [client.post("/classify", content=video) for _ in range(3)]
            finally:
                resource.prlimit(pid, resource.RLIMIT_AS, limits)
            assert {(answer.status_code, answer.json()["title"]) for answer in answers} == {(503, "Out of resources")}
            check_recovery(server, video)
