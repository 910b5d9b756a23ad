"""The image's own check of a service in it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import RunningServer

DOCKERFILE = (Path(__file__).parents[1] / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize(("path", "port"), [("", "OPERATIONS_PORT"), ("", "PORT"), ("/nowhere", "PORT")])
def test_the_check_is_of_the_service_and_not_of_a_proxy(server: RunningServer, path: str, port: str) -> None:
    """Docker hands its client's proxies on to containers."""
    check = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", DOCKERFILE)
    assert check
    python, *arguments = json.loads(check[1])
    assert python == "python"
    command = [sys.executable, *(part.replace("/health/ready", path or "/health/ready") for part in arguments)]
    nowhere = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    environment = os.environ | nowhere | {f"AFTERFRAME_{port}": str(server.address[1])}
    for name in ("no_proxy", "NO_PROXY"):
        environment.pop(name, None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode == 0) == (not path), done.stderr
