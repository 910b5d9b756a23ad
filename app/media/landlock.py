"""Landlock: takes all files, TCP, abstract sockets and signals to others from this process, without privileges.

https://docs.kernel.org/userspace-api/landlock.html; glibc has no functions for it.
"""

import ctypes
import os

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture
_ASK_FOR_VERSION = 1
_TCP_RIGHTS = 0b11  # bind, connect
_SCOPES = 0b11  # abstract UNIX sockets, signals


class _Ruleset(ctypes.Structure):
    """`struct landlock_ruleset_attr`: rights that are refused where no rule gives them."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


def refuse_paths() -> None:
    """Refuses everything that this kernel's Landlock can. Raises OSError where there is none.

    `no_new_privs` must be set. What is open stays open.
    """
    version = _call(_CREATE_RULESET, None, 0, _ASK_FOR_VERSION)
    file_rights = 12 + min(version, 3) + (version >= 5)  # 13 at first; versions 2, 3 and 5 brought one more each
    ruleset = _Ruleset((1 << file_rights) - 1, _TCP_RIGHTS, _SCOPES)
    num_fields = 1 + (version >= 4) + (version >= 6)  # a kernel refuses fields that it does not know
    descriptor = _call(_CREATE_RULESET, ctypes.byref(ruleset), num_fields * 8, 0)
    try:
        _call(_RESTRICT_SELF, descriptor, 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
