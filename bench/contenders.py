"""The contenders that are measured side by side: each answers a clip with the model's scores by label."""

import http.client
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from bench.processes import cpu_seconds, tree
from bench.service import ROOT

_BOUNDARY = "a-line-that-is-in-no-video"


class Contender(Protocol):
    """One way to answer."""

    name: str
    pids: list[int]
    """The processes that were started for it."""

    def ask(self, clip: Path) -> list[float]:
        """The scores by label; safe from any thread."""


def cpu_of(contender: Contender) -> float:
    """CPU seconds that all its processes have used so far."""
    return cpu_seconds([below for pid in contender.pids for below in tree(pid)])


class Limit:
    """As many bare processes as there are cores."""

    name = "limit"

    def __init__(self, model: Path, program: str = "bench.limit") -> None:
        command = [sys.executable, "-m", program, str(model)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._all = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment)
            for _ in range(len(os.sched_getaffinity(0)))
        ]
        self._idle = list(self._all)
        # First come, first served. A lock, or a queue of idle processes, would go back to the thread that freed it,
        # long before a waiting one wakes: most would never wait, and a median would hide the few that do.
        self._turns = ThreadPoolExecutor(len(self._all))
        self.pids = [process.pid for process in self._all]

    def ask(self, clip: Path) -> list[float]:
        return self._turns.submit(self._answer, clip).result()

    def _answer(self, clip: Path) -> list[float]:
        process = self._idle.pop()  # there are as many as turns
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{clip}\n".encode())
        process.stdin.flush()
        scores: list[float] = json.loads(process.stdout.readline())
        self._idle.append(process)
        return scores

    def stop(self) -> None:
        """End the processes."""
        self._turns.shutdown()
        for process in self._all:
            process.communicate()


class OverHttp:
    """A service that takes a clip as the body of a POST or in the form field `file`."""

    def __init__(
        self, name: str, port: int, pid: int, path: str, *, is_form: bool = False, labels: list[str] | None = None
    ) -> None:
        """`labels`: their order, if it answers labels as our service does; else it answers scores."""
        self.name = name
        self.pids = [pid]
        self._port = port
        self._path = path
        self._is_form = is_form
        self._labels = labels

    def ask(self, clip: Path) -> list[float]:
        body, content_type = clip.read_bytes(), "video/mp4"
        if self._is_form:
            body, content_type = file_form(clip.name, body)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        connection.request("POST", self._path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        if response.status != http.client.OK:
            raise RuntimeError(f"{self.name} answered {response.status}: {text[:300]!r}")
        answer = json.loads(text)
        if self._labels is None:
            return [float(score) for score in answer]
        scores = {label["label"]: float(label["score"]) for label in answer["results"][0]["labels"]}
        return [scores[label] for label in self._labels]


def file_form(name: str, content: bytes) -> tuple[bytes, str]:
    """(body, Content-Type) of a form with the file in its field `file`."""
    disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
    head = f"--{_BOUNDARY}\r\n{disposition}\r\nContent-Type: video/mp4\r\n\r\n"
    body = head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={_BOUNDARY}"
