"""The real service in a process of its own, as `make serve` starts it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 60  # importing torch on a busy machine


@dataclass
class RunningServer:
    process: subprocess.Popen[str]
    url: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """What it has logged, parsed."""

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sent)
        return self.process.wait(30)


@contextmanager
def running_server(store: Path, **settings: object) -> Iterator[RunningServer]:
    """Starts the service on `store`, with `settings` as AFTERFRAME_… variables, and stops it in the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AFTERFRAME_")}
    environment |= {"AFTERFRAME_MODEL_STORE": str(store), "AFTERFRAME_PORT": "0"}
    environment |= {f"AFTERFRAME_{name.upper()}": str(value) for name, value in settings.items()}
    process = subprocess.Popen([sys.executable, "-m", "app"], env=environment, stderr=subprocess.PIPE, text=True)
    server = RunningServer(process)
    listening = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            entry = json.loads(line) if line.startswith("{") else {"message": line.rstrip()}
            server.lines.append(entry)
            if found := re.search(r"running on (http://[0-9.:]+)", entry["message"]):
                server.url = found[1]
                listening.set()
        listening.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert listening.wait(START_SECONDS), "the service did not start in time"
        yield server
    finally:
        if process.poll() is None:
            server.stop()
        reader.join(5)
        assert process.stderr is not None
        process.stderr.close()
