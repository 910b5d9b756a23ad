"""How many cores the service may use. A leaf: imports nothing of ours."""

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path


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
