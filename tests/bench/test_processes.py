import os
import subprocess
import sys

from bench.processes import MemoryWatch, memory_mb, tree


def test_a_process_that_has_ended_is_in_no_tree() -> None:
    """A decoder may end between being listed as a child and being looked at."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert tree(process.pid) == [process.pid]
        process.communicate(b"\n")

    assert tree(process.pid) == []


def test_what_is_over_at_once_has_taken_memory_too() -> None:
    with MemoryWatch(os.getpid()) as watch:
        held = memory_mb([os.getpid()])

    assert watch.peak_mb > held / 2
