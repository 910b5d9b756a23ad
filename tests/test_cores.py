"""How many cores a limit on their time leaves, and how many one file gets."""

import asyncio
from pathlib import Path

import pytest

from app import cores
from app.cores import cpu_limits


def write_groups(path: Path, listed: str, files: dict[str, str]) -> tuple[Path, Path]:
    """What the kernel shows in /proc/self/cgroup and /sys/fs/cgroup."""
    groups, mounts = path / "groups", path / "mounts"
    groups.write_text(listed)
    for name, content in files.items():
        (mounts / name).parent.mkdir(parents=True, exist_ok=True)
        (mounts / name).write_text(content)
    return groups, mounts


@pytest.mark.parametrize(
    ("listed", "files", "limits"),
    [
        ("0::/\n", {"cpu.stat": ""}, []),  # of a machine
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [1.5]),  # of a container
        ("0::/a.slice/b\n", {"a.slice/cpu.max": "300000 100000\n", "a.slice/b/cpu.max": "50000 25000\n"}, [2, 3]),
        ("0::/docker/b\n", {"cpu.max": "300000 100000\n", "other/cpu.max": "100000 100000\n"}, [3]),
        (
            "2:cpuset:/c\n1:cpu,cpuacct:/docker/b\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            [2.5],
        ),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
    ],
)
def test_the_limits_of_every_group_above_are_found(
    tmp_path: Path, listed: str, files: dict[str, str], limits: list[float]
) -> None:
    assert list(cpu_limits(*write_groups(tmp_path, listed, files))) == limits


def test_where_there_are_no_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert list(cpu_limits(tmp_path / "groups", tmp_path)) == []


@pytest.mark.parametrize(
    ("looks", "idle_workers", "expected"),
    [
        ([2], [1], 2),
        ([1, 2], [1, 1], 2),
        ([1, 1], [1, 1], 1),
        ([1, 2], [1, 0], 1),  # another request has come meanwhile
        ([2, 1], [3, 3], 2),
        ([8], [7], 4),
        ([], [0], 1),
    ],
)
def test_idle_cores_are_looked_for_again_where_there_are_too_few(
    looks: list[int], idle_workers: list[int], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks_left, workers_left = iter(looks), iter(idle_workers)
    monkeypatch.setattr(cores, "idle_cores", lambda: next(looks_left))
    assert asyncio.run(cores.cores_for_one(lambda: next(workers_left))) == expected
    assert not list(looks_left)
