"""Files that want something else read or somebody called, bombs, and all that is broken, over HTTP."""

import socket
import struct
import time
import zlib
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.media_maker import moving_frames, write_video
from tests.robustness.hostile_files import SECRET, Canaries, aimed_at, canaries, hostile_files
from tests.robustness.processes import decoders, memory_mb, reset_peak
from tests.server import RunningServer

MALFORMED = Path(__file__).parents[2].parent / "shared/data/malformed"
ROUTES = (
    "/classify",
    "/classify?model=tiny-listener&timeline=true",
    "/features",
    "/predict?surprise=true&end_seconds=20",
)
DEADLINE_SECONDS = 30  # the default


def post(client: httpx.Client, route: str, name: str, content: bytes) -> httpx.Response:
    """Posted as the file that it claims to be: neither its name nor its type is looked at."""
    return client.post(route, files={"file": (name, content, "video/mp4")})


def check_memory(server: RunningServer, idle_mb: float) -> None:
    """The server no more than idle + 150 MB, a worker no more than 1 GB: what they ever took."""
    peak_mb = memory_mb(server.process.pid, "VmHWM")
    workers = [round(memory_mb(pid, "VmHWM")) for pid in decoders(server.process.pid)]
    print(f"server {idle_mb:.0f} -> {peak_mb:.0f} MB, workers {workers} MB")
    assert peak_mb < idle_mb + 150
    assert max(workers) < 1024


def idle_memory_mb(server: RunningServer, folder: Path) -> float:
    """After a first request; what was taken at most is forgotten."""
    video = write_video(folder / "whole.mp4", moving_frames(12), 12).read_bytes()
    with server.client() as client:
        for route in ROUTES[:1]:
            assert post(client, route, "whole.mp4", video).status_code == 200
    reset_peak(server.process.pid)
    return memory_mb(server.process.pid)


def check_hostile_files(server: RunningServer, working_folder: Path, routes: tuple[str, ...], canary: Canaries) -> None:
    secret = write_video(working_folder / "secret.ts", moving_frames(10), 10)
    (working_folder / "secret.txt").write_text(SECRET)
    files: dict[str, bytes] = {}
    for path in (secret, working_folder / "secret.txt"):
        made = hostile_files(canary.tcp_port, canary.udp_port, path)
        files |= {f"{path.suffix[1:]}.{name}": content for name, content in made.items()}
    with server.client() as client:
        for name, content in files.items():
            for route in routes:
                answer = post(client, route, name, content)
                assert answer.status_code in (415, 422), (name, answer.text)
                assert SECRET not in answer.text
                assert str(working_folder) not in answer.text
    assert canary.hits() == 0


def test_nothing_but_the_file_itself_is_read(attacked: RunningServer, working_folder: Path, tmp_path: Path) -> None:
    idle_mb = idle_memory_mb(attacked, tmp_path)
    with canaries() as canary:
        assert canary.hits() == 0
        with socket.create_connection(canary.tcp.getsockname()):
            assert canary.hits() == 1  # it would be noticed
        check_hostile_files(attacked, working_folder, ROUTES[:1], canary)
    check_memory(attacked, idle_mb)


def test_bombs_are_refused_before_they_cost(attacked: RunningServer, tmp_path: Path) -> None:
    idle_mb = idle_memory_mb(attacked, tmp_path)
    with attacked.client() as client:
        for name, content in bombs(tmp_path).items():
            began = time.perf_counter()
            answer = post(client, "/classify", name, content)
            assert answer.status_code in (415, 422), (name, answer.text)
            print(f"{name}: {len(content)} bytes, {answer.status_code} after {time.perf_counter() - began:.2f} s")
    workers = [round(memory_mb(pid, "VmHWM")) for pid in decoders(attacked.process.pid)]
    assert max(workers) < 256
    check_memory(attacked, idle_mb)


def bombs(folder: Path) -> dict[str, bytes]:
    """Small files that say they are large."""
    picture = struct.pack(">IIBBBBB", 16_000, 16_000, 16, 6, 0, 0, 0)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2L\1\0;"
    black = np.zeros((2, 4096, 4096, 3), np.uint8)
    quick = {"preset": "ultrafast"}
    return {
        "16000x16000.png": b"\x89PNG\r\n\x1a\n" + _png(b"IHDR", picture) + _png(b"IDAT", zlib.compress(bytes(9))),
        "65535x65535.gif": gif,
        "4096x4096.mp4": write_video(folder / "large.mp4", black, 1, options=quick).read_bytes(),
        "4096x4096.mkv": write_video(folder / "large.mkv", black, 1, options=quick).read_bytes(),
    }


def _png(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.robustness
@pytest.mark.timeout(0)
@pytest.mark.skipif(not MALFORMED.is_dir(), reason="needs the shared data")
def test_everything_malformed(attacked: RunningServer, working_folder: Path, tmp_path: Path) -> None:
    idle_mb = idle_memory_mb(attacked, tmp_path)
    statuses: Counter[tuple[str, int]] = Counter()
    slowest = (0.0, "")
    paths = sorted(path for path in MALFORMED.rglob("*") if path.is_file())
    with canaries() as canary, attacked.client() as client:
        check_hostile_files(attacked, working_folder, ROUTES, canary)
        for path in paths:
            content = aimed_at(path.read_bytes(), canary.tcp_port, canary.udp_port)
            for route in ROUTES:
                began = time.perf_counter()
                answer = post(client, route, path.name, content)
                seconds = time.perf_counter() - began
                slowest = max(slowest, (seconds, f"{path.name} {route}"))
                statuses[route, answer.status_code] += 1
                late = {504} if seconds > DEADLINE_SECONDS else set()
                expected = {200, 415, 422} | late if content else {400}
                assert answer.status_code in expected, (path.name, answer.text)
                assert seconds < 2 * DEADLINE_SECONDS  # a deadline that is not kept ends nothing
                assert "root:" not in answer.text
        assert canary.hits() == 0
        assert client.get("/health/ready").json()["status"] == "ready"
    print(f"{len(paths)} files: {dict(statuses)}; slowest {slowest}")
    assert attacked.process.poll() is None
    check_memory(attacked, idle_mb)
