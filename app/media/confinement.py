"""Takes from a decoder worker what it does not need: files, sockets, other processes, more memory, more time.

The layers overlap on purpose: each refuses what another one may not have been there to refuse. None of them needs
privileges, and none can be taken off again.
"""

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from app.media.landlock import refuse_paths
from app.media.seccomp import load_libseccomp, refuse_calls

Layer = Literal["limits", "no_new_privs", "landlock", "seccomp"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
"""In the order in which they are laid: seccomp would refuse the others."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h


def confine(connection: int, memory_bytes: int, cpu_seconds: int) -> tuple[Layer, ...]:
    """Lays every layer that this machine has; gives back which they are.

    Afterwards nothing can be opened, nor be written to but the socket `connection` and stderr; what is imported then
    fails. `memory_bytes`: address space beyond what is taken now. `cpu_seconds`: in the whole life of the process.
    """
    libseccomp = load_libseccomp()  # before Landlock refuses to open it
    lay: dict[Layer, Callable[[], None]] = {
        "limits": lambda: _set_limits(memory_bytes, cpu_seconds),
        "no_new_privs": no_new_privileges,
        "landlock": refuse_paths,
        "seccomp": lambda: refuse_calls(libseccomp, connection),
    }
    laid: list[Layer] = []
    for layer in LAYERS:
        try:
            lay[layer]()
        except OSError:
            continue  # the service says so
        laid.append(layer)
    return tuple(laid)


def no_new_privileges() -> None:
    """This process gains none by executing anything; Landlock and seccomp ask for it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent() -> None:
    """Has the kernel end this process with the one that forked it, also while a decoder hangs."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _set_limits(memory_bytes: int, cpu_seconds: int) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, taken + memory_bytes),
        (resource.RLIMIT_CPU, cpu_seconds),
    ):
        resource.setrlimit(kind, (most, most))


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
