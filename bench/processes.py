"""CPU time and memory of a process and of all that it started, from proc(5)."""

import os
import threading
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and everything it started, without those that have ended meanwhile, as workers may."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []
    children: list[int] = []
    for task in tasks:
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            children += [int(child) for child in (task / "children").read_text().split()]
    return [pid, *(below for child in children for below in tree(child))]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes so far, and of those of their children that have ended."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def memory_mb(pids: list[int]) -> float:
    """Proportional set size: shared memory counts once."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # a worker that is being replaced
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def forget_peaks(pids: list[int]) -> None:
    """Resets the peaks of the processes."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pid: int) -> float:
    """The most that the process ever had resident, however short, or since its peak was reset."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class MemoryWatch:
    """The largest memory of a process and all that it started, sampled twice a second and at the end."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(pid,), daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self, pid: int) -> None:
        is_over = False
        while not is_over:
            is_over = self._over.wait(0.5)
            self.peak_mb = max(self.peak_mb, memory_mb(tree(pid)))
