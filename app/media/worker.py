"""A decoder worker: the only process that runs FFmpeg on what was uploaded.

It is forked from the fork server, shuts itself in, and answers one job after the other over its socket until that
closes. It is told nothing but an open descriptor and what to read from it.
"""

import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from app.errors import InvalidMedia, MediaTooLarge, ServiceError
from app.media.decode import read_media
from app.media.request import MediaLimits, MediaRequest
from app.media.socket_file import SocketFile
from app.media.wire import LENGTHS, decode_job, encode_error, encode_event, encode_ready

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_M_MMAP_THRESHOLD = -3  # malloc.h of glibc
_MMAP_THRESHOLD_BYTES = 1 << 20
"""Set, it stays; else glibc raises it with every large block that is freed, and the tables of a long file, which grow
by being copied, tear holes into the heap: 21 MB more for two hours than for ten seconds instead of 15."""

logger = logging.getLogger(__name__)


def serve(connection: socket.socket, memory_bytes: int) -> None:
    """Answer jobs until the other end of `connection` is closed. `memory_bytes`: address space a job may take."""
    _shut_in(connection.fileno(), memory_bytes)
    with connection, suppress(ConnectionError):  # the service is gone
        gc.collect()
        gc.freeze()  # so that the collections between jobs look at what the job made, not at numpy
        _send(connection, encode_ready())
        while (job := _receive_job(connection)) is not None:
            descriptor, request, limits = job
            try:
                _answer(connection, descriptor, request, limits)
            finally:
                os.close(descriptor)
                gc.collect()  # PyAV's containers and streams refer to each other: 24 MB for each 720p file until then


def _shut_in(connection: int, memory_bytes: int) -> None:
    assert "torch" not in sys.modules, "a decoder worker has no room for torch"
    # Among what the fork server passes on is the pipe by which it learns that the service is gone.
    os.closerange(3, connection)
    os.closerange(connection + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a decoder that hangs dies with the service
    libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which lets running requests end
    nowhere = tempfile.mkdtemp()
    os.chdir(nowhere)
    Path(nowhere).rmdir()  # a relative name now leads nowhere, and nothing can be made here
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory_bytes, taken + memory_bytes))


def _receive_job(connection: socket.socket) -> tuple[int, MediaRequest, MediaLimits] | None:
    """The next job, with the descriptor of its file; None when there will be no more."""
    lengths, descriptors, _, _ = socket.recv_fds(connection, LENGTHS.size, 1)
    if not lengths:
        return None
    header_bytes, _ = LENGTHS.unpack(lengths)
    header = bytearray()
    while len(header) < header_bytes:
        part = connection.recv(header_bytes - len(header))
        if not part:
            return None
        header += part
    return descriptors[0], *decode_job(bytes(header))


def _answer(connection: socket.socket, descriptor: int, request: MediaRequest, limits: MediaLimits) -> None:
    """Send every event. The socket's buffer is the credit: sending waits until the service has taken what is there."""
    try:
        file = SocketFile(descriptor) if request.source == "arriving" else _DescriptorFile(descriptor)
        for event in read_media(file, request, limits):
            _send(connection, encode_event(event))
    except ServiceError as error:
        _send(connection, encode_error(error))
    except MemoryError:
        too_large = MediaTooLarge("The file takes more memory to decode than is allowed.")
        _send(connection, encode_error(too_large, is_spent=True))
    except ConnectionError:
        raise
    except Exception:  # the one edge: no file may end the loop
        logger.exception("a file was refused for an error of our own")
        _send(connection, encode_error(InvalidMedia("The file cannot be decoded.")))


def _send(connection: socket.socket, parts: list[bytes | memoryview]) -> None:
    for part in parts:
        connection.sendall(part)


class _DescriptorFile:
    """Reads an open descriptor without moving the offset that it shares with other processes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._offset = 0
        self._size = os.fstat(descriptor).st_size

    def read(self, size: int = -1, /) -> bytes:
        data = os.pread(self._descriptor, size if size >= 0 else self._size - self._offset, self._offset)
        self._offset += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._size}[whence]
        self._offset = max(0, start + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset
