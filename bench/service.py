"""Starts and stops servers for a measurement: ours, or any other."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from bench.processes import tree

ROOT = Path(__file__).parents[1]
_START_SECONDS = 120.0


class Service:
    """A running service and its client."""

    def __init__(self, pid: int, client: httpx.Client) -> None:
        self.pid = pid
        self.client = client

    def classify(self, video: Path, **query: object) -> dict[str, Any]:
        """The answer of POST /classify; raises httpx.HTTPStatusError for an error status."""
        with video.open("rb") as file:
            response = self.client.post("/classify", params=query, content=file)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def pids(self) -> list[int]:
        """The server's process and everything it started."""
        return tree(self.pid)


@contextmanager
def running_service(port: int = 8123, **settings: object) -> Iterator[Service]:
    """Starts `python -m app` with `settings` as AFTERFRAME_… variables, waits until it is ready, stops it."""
    environment = {"AFTERFRAME_PORT": str(port), "AFTERFRAME_LOG_LEVEL": "warning"}
    environment |= {f"AFTERFRAME_{name.upper()}": str(value) for name, value in settings.items()}
    with (
        started(["app"], port, "/health/ready", **environment) as pid,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=3600) as client,
    ):
        yield Service(pid, client)


@contextmanager
def started(
    command: list[str], port: int, path: str, python: str = sys.executable, **environment: str
) -> Iterator[int]:
    """The process id of a server, `python -m` with the command, once it answers `path`."""
    began = time.perf_counter()
    process = subprocess.Popen([python, "-m", *command], cwd=ROOT, env=os.environ | environment)
    try:
        while not _answers(port, path):
            if process.poll() is not None or time.perf_counter() - began > _START_SECONDS:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.02)
        yield process.pid
    finally:
        started_by_it = tree(process.pid)[1:] if process.poll() is None else []
        process.terminate()
        process.wait(60)
        for pid in started_by_it:  # LitServe leaves its processes behind
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
