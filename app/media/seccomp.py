"""seccomp: the system calls that a decoder is left with, through libseccomp, which knows their numbers.

https://github.com/seccomp/libseccomp/blob/main/include/seccomp.h.in
"""

import ctypes
import errno
import os

_ALLOW, _ANSWER_ERROR = 0x7FFF0000, 0x00050000
_MASKED_EQUAL = 7
_INT, _LONG = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_CLONE_THREAD, _PROT_EXEC, _AT_EMPTY_PATH = 0x10000, 4, 0x1000
_STDERR = 2

_CALLS = (
    *("read", "pread64", "lseek", "close", "fstat", "poll", "ppoll"),  # of what was opened for it
    *("brk", "munmap", "mremap", "madvise"),
    *("futex", "set_robust_list", "rseq", "membarrier", "sched_yield", "sched_getaffinity"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "restart_syscall"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("getpid", "gettid", "getrandom", "exit", "exit_group"),
)


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`, as _MASKED_EQUAL takes it."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def load_libseccomp() -> ctypes.CDLL | None:
    """The library, which must be loaded while files can still be opened; None where it is not installed."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_load.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    return library


def refuse_calls(library: ctypes.CDLL | None, connection: int) -> None:
    """Refuses, with EPERM, all that decoding does not need: opening, connecting, forking, executing, signalling.

    Only the socket `connection` and stderr can be written to. Raises OSError where libseccomp or the kernel cannot.
    """
    if library is None:
        raise OSError("libseccomp.so.2 is not installed")
    context = library.seccomp_init(_ANSWER_ERROR | errno.EPERM)
    if not context:
        raise OSError("libseccomp made no filter")
    try:
        # glibc then makes threads by `clone`, of which a filter can see what it is to make.
        _add_rule(library, context, _ANSWER_ERROR | errno.ENOSYS, "clone3")
        for name in _CALLS:
            _add_rule(library, context, _ALLOW, name)
        for name, argument, mask, value in (
            ("sendto", 0, _INT, connection),
            ("recvfrom", 0, _INT, connection),
            ("recvmsg", 0, _INT, connection),
            ("write", 0, _INT, _STDERR),
            ("newfstatat", 3, _AT_EMPTY_PATH, _AT_EMPTY_PATH),  # os.fstat
            ("mmap", 2, _PROT_EXEC, 0),
            ("mprotect", 2, _PROT_EXEC, 0),
            ("clone", 0, _CLONE_THREAD, _CLONE_THREAD),  # a thread, not a process
            ("tgkill", 0, _INT, os.getpid()),  # abort()
            ("prlimit64", 2, _LONG, 0),  # asking for a limit, not setting one
        ):
            _add_rule(library, context, _ALLOW, name, _Comparison(argument, _MASKED_EQUAL, mask, value))
        _check(library.seccomp_load(context))
    finally:
        library.seccomp_release(context)


def _add_rule(library: ctypes.CDLL, context: int, action: int, name: str, *comparisons: _Comparison) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    array = (_Comparison * len(comparisons))(*comparisons)
    add = library.seccomp_rule_add_array  # makes nothing of a call that this architecture does not have
    _check(add(ctypes.c_void_p(context), ctypes.c_uint32(action), number, len(comparisons), array))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
