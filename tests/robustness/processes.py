"""What a running service takes of the machine, from /proc."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.server import RunningServer, running_server


@contextmanager
def server_apart(store: Path, **settings: object) -> Iterator[RunningServer]:
    """A service that has all cores but one, and the last one for this process: clients cost it nothing.

    With a single core, both have that.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:-1] or cores)  # what is started now has these
    try:
        with running_server(store, **settings) as server:
            _move_to(cores[-1:])
            yield server
    finally:
        _move_to(cores)


def _move_to(cores: list[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


def children(pid: int) -> list[int]:
    """All processes below `pid`."""
    below = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            below += [int(child), *children(int(child))]
    return below


def decoders(pid: int) -> list[int]:
    """The decoder workers of the service `pid`: what its fork server has forked."""
    direct = {int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _words(task / "children")}
    return [child for child in children(pid) if child not in direct]


def _words(path: Path) -> list[str]:
    return path.read_text().split()


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """`what` of /proc/PID/status: VmRSS now, VmHWM at most."""
    found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def reset_peak(pid: int) -> None:
    """VmHWM starts anew: proc(5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_ticks(pid: int) -> int:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])
