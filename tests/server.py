"""The real service in a process of its own, as `make serve` starts it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 180  # importing torch on a busy machine


@dataclass
class RunningServer:
    process: subprocess.Popen[str]
    url: str = ""
    operations_url: str = ""
    """Of the port for operations, where there is one."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """What it has logged, parsed."""

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").partition(":")
        return host, int(port)

    def connect(self) -> socket.socket:
        """A connection, for what no HTTP client would send."""
        return socket.create_connection(self.address, timeout=30)

    def metrics(self) -> dict[str, float]:
        """Every line of /metrics by its name and labels."""
        with urllib.request.urlopen(f"{self.operations_url or self.url}/metrics", timeout=30) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if name[:1] != "#"}

    def metric(self, name: str) -> float:
        """The value of one line of /metrics; 0 where there is none."""
        return self.metrics().get(name, 0.0)

    def wait_for_metric(self, name: str, value: float, seconds: float = 30, *, at_least: bool = False) -> None:
        end = time.monotonic() + seconds
        while (found := self.metric(name)) != value and not (at_least and found > value):
            assert time.monotonic() < end, f"{name} is {found}, not {value}"
            time.sleep(0.01)

    def line(self, request_id: str, seconds: float = 10) -> dict[str, Any]:
        """The log line of one request, which comes a moment after its answer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in list(self.lines):
                if line.get("request_id") == request_id and line.get("message") in ("request", "stream"):
                    return line
            time.sleep(0.01)
        raise AssertionError(f"there is no line of {request_id}")

    def descendants(self) -> list[int]:
        """Process ids of the decoders, and of what starts them."""
        return _descendants(self.process.pid)

    def cpu_seconds(self) -> float:
        """What the server and its workers have spent so far, those that have been replaced included."""
        spent = 0.0
        for pid in (self.process.pid, *self.descendants()):
            with suppress(FileNotFoundError, ProcessLookupError):  # a worker that has just been replaced
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                spent += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return spent

    def memory_bytes(self) -> int:
        """Of the server alone, resident."""
        resident = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(resident) * os.sysconf("SC_PAGE_SIZE")

    @contextmanager
    def workers_stopped(self) -> Iterator[None]:
        """Nothing is decoded, and so nothing answered, while the context lasts."""
        stopped = self.descendants()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):  # one that was ended meanwhile
                    os.kill(pid, signal.SIGCONT)

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sent)
        return self.process.wait(30)


@contextmanager
def running_server(store: Path, **settings: object) -> Iterator[RunningServer]:
    """Starts the service on `store`, with `settings` as AFTERFRAME_… variables, and stops it in the end.

    In float32 if not told otherwise, so that it answers the same on every machine.
    """
    settings = {"precision": "float32"} | settings
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
                if "operations_port" not in settings:
                    listening.set()
            elif found := re.search(r"Operations on (http://[0-9.:]+)", entry["message"]):
                server.operations_url = found[1]
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


def _descendants(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (task / "children").read_text().split())
    return children + [below for child in children for below in _descendants(child)]


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer that tells its length; nothing after it is read."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        head += _receive(connection, 1)
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = bytearray()
    while (missing := int(headers["content-length"]) - len(body)) > 0:
        body += _receive(connection, missing)
    return int(first.split()[1]), headers, bytes(body)


def _receive(connection: socket.socket, num_bytes: int) -> bytes:
    part = connection.recv(num_bytes)
    assert part, "the connection was closed before the end of the answer"
    return part
