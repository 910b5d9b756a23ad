"""What a running service takes of the machine, from /proc."""

import re
from pathlib import Path


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
