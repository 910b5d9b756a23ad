"""A service of its own for a measurement, and what is known of its processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.processes import tree

ROOT = Path(__file__).parents[1]


class Service:
    """A running service and its client."""

    def __init__(self, process: subprocess.Popen[bytes], client: httpx.Client) -> None:
        self.process = process
        self.client = client

    def classify(self, video: Path, **query: object) -> dict[str, Any]:
        """The answer of POST /classify; raises httpx.HTTPStatusError where it is none."""
        with video.open("rb") as file:
            response = self.client.post("/classify", params=query, content=file)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    def pids(self) -> list[int]:
        """The server's process and everything it started."""
        return tree(self.process.pid)


@contextmanager
def running_service(port: int = 8123, **settings: object) -> Iterator[Service]:
    """Starts `python -m app` with `settings` as AFTERFRAME_… variables, waits until it is ready, stops it."""
    environment = os.environ | {"AFTERFRAME_PORT": str(port), "AFTERFRAME_LOG_LEVEL": "warning"}
    environment |= {f"AFTERFRAME_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen([sys.executable, "-m", "app"], cwd=ROOT, env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=3600) as client:
            _wait_until_ready(process, client)
            yield Service(process, client)
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_ready(process: subprocess.Popen[bytes], client: httpx.Client) -> None:
    while process.poll() is None:
        try:
            client.get("/health/ready").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("the service did not start")
