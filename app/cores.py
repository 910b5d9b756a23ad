"""How many cores the service may use, and one file. A leaf: imports nothing of ours."""

import asyncio
import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

MAX_CORES = 4
"""Of one file: each takes memory, and a file that is split further gains little."""
LOOK_AGAIN_SECONDS = 0.001


@cache
def num_cores() -> int:
    """Cores that this process may run on; fewer where a limit on their time (`docker run --cpus`, Kubernetes, systemd's
    CPUQuota) is worth fewer: 1.5 count as 2."""
    limits = cpu_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return min([len(os.sched_getaffinity(0)), *map(math.ceil, limits)])


def cpu_limits(groups: Path, mounts: Path) -> Iterator[float]:
    """In cores, those of the control groups that `groups` lists and of the groups above them; cgroups(7).

    A container may see its own group as the root of the mount, and in `groups` the path that it has on the host. So
    what is not there is passed over.
    """
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        mount, *files = mounts, "cpu.max"
        if controllers:  # version 1
            mount, *files = mounts / "cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"
        if not controllers or "cpu" in controllers.split(","):
            group = mount / path.lstrip("/")
            for folder in (group, *group.parents[: len(group.parts) - len(mount.parts)]):
                if all((folder / file).exists() for file in files):
                    quota, period = " ".join((folder / file).read_text() for file in files).split()
                    if quota not in ("max", "-1"):  # no limit
                        yield int(quota) / int(period)


async def cores_for_one(idle_workers: Callable[[], int]) -> int:
    """Of one file: one, and as many as are idle, now or a moment later, where as many decoder workers are.

    By then what ends as a request begins is gone, such as the thread that wrote the last of its upload: with one look,
    six of twenty lone requests were decoded on one core. And requests that come together see each other.
    """
    most = min(1 + idle_workers(), MAX_CORES)
    if most == 1 or (found := idle_cores()) >= most:
        return most
    await asyncio.sleep(LOOK_AGAIN_SECONDS)
    most = min(1 + idle_workers(), most)
    return min(most, max(found, idle_cores()))


def idle_cores() -> int:
    """At least one. By what can run at this moment: on a core that others use as well, a thread more only costs.

    The load of the last minute (`os.getloadavg`) would deny threads to whoever comes first after a busy time.
    """
    try:
        load = Path("/proc/loadavg").read_text()
    except OSError:  # no file handle for it
        return 1
    runnable = int(load.split()[3].partition("/")[0])  # this process among them; proc(5)
    return max(1, min(num_cores(), len(os.sched_getaffinity(0)) - (runnable - 1)))
