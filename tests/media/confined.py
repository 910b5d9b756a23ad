"""A process that shuts itself in as a decoder worker does, or by one layer alone, and tries what it still can do."""

import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from app.media.confinement import no_new_privileges
from app.media.landlock import refuse_paths
from app.media.seccomp import load_libseccomp, refuse_calls
from app.media.worker import _shut_in

MEMORY_BYTES = 1 << 30


def attempts(upload: int) -> dict[str, Callable[[], object]]:
    """What a decoder has no business with; `upload`: the descriptor of its file, open for writing."""
    return {
        "read a file": lambda: os.open("/etc/hosts", os.O_RDONLY),
        "read from the working folder": lambda: os.open("secret.txt", os.O_RDONLY),
        "write a file": lambda: os.open("/tmp/written", os.O_WRONLY | os.O_CREAT),
        "list a folder": lambda: os.scandir("/"),
        "remove a folder": Path("/tmp").rmdir,
        "connect by TCP": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "bind UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", 0)),
        "make a socket": socket.socketpair,
        "fork": os.fork,
        "execute": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
        "spawn": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
        "signal the fork server": lambda: os.kill(os.getppid(), signal.SIGCONT),
        "set a limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "make code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        "write to stdout": lambda: os.write(1, b"x"),
        "write to the upload": lambda: os.write(upload, b"x"),
        "cut the upload": lambda: os.ftruncate(upload, 0),
    }


def needs(upload: int) -> dict[str, Callable[[], object]]:
    """What a decoder must be able to do."""
    return {
        "read the upload": lambda: os.pread(upload, 4, 0),
        "ask for its size": lambda: os.fstat(upload),
        "start a thread": _start_a_thread,
        "take 100 MB": lambda: bytearray(100 << 20),
    }


def _start_a_thread() -> None:
    thread = threading.Thread(target=str)
    thread.start()
    thread.join()


def _outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ValueError:  # what `resource` makes of it
        return "EPERM"
    except MemoryError:
        return "MemoryError"
    return "done"


def shut_in_and_try(connection: socket.socket) -> None:
    """Sends which layers there are, and by attempt "done" or the name of its error."""
    layers = _shut_in(connection.fileno(), MEMORY_BYTES, 60)
    upload = _receive_upload(connection)
    tried = {name: _outcome(attempt) for name, attempt in (attempts(upload) | needs(upload)).items()}
    tried["take 2 GB"] = _outcome(lambda: bytearray(2 << 30))
    connection.sendall(json.dumps([layers, tried]).encode())


def try_under_landlock(connection: socket.socket) -> None:
    """The same, by Landlock alone, of what it is there for."""
    no_new_privileges()
    refuse_paths()
    _try(connection, "read a file", "write a file", "list a folder", "remove a folder", "connect by TCP")


def try_under_seccomp(connection: socket.socket) -> None:
    """The same, by seccomp alone, of all."""
    refuse_calls(load_libseccomp(), connection.fileno())
    _try(connection, *attempts(-1))


def _try(connection: socket.socket, *names: str) -> None:
    upload = _receive_upload(connection)
    tried = {name: _outcome(attempts(upload)[name]) for name in names}
    connection.sendall(json.dumps(tried).encode())


def _receive_upload(connection: socket.socket) -> int:
    _, [upload], _, _ = socket.recv_fds(connection, 1, 1)
    return upload
