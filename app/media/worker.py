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

# PyAV and numpy import these when they first need them, which would be too late.
import av.subtitles.codeccontext
import av.subtitles.stream
import av.subtitles.subtitle  # noqa: F401
import numpy.ma  # noqa: F401

from app.errors import InvalidMedia, MediaTooLarge, ServiceError
from app.media.confinement import Layer, confine, die_with_parent
from app.media.decode import read_media
from app.media.descriptors import DescriptorFile, GrowingFile
from app.media.request import MediaLimits, MediaRequest
from app.media.socket_file import SocketFile
from app.media.wire import LENGTHS, decode_job, encode_error, encode_event, encode_ready

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h of glibc
_MMAP_THRESHOLD_BYTES = 1 << 20
"""Set, it stays; else glibc raises it with every large block that is freed, and the tables of a long file, which grow
by being copied, tear holes into the heap: 21 MB more for two hours than for ten seconds instead of 15."""

logger = logging.getLogger(__name__)


def serve(connection: socket.socket, memory_bytes: int, cpu_seconds: int) -> None:
    """Answer jobs until the other end of `connection` is closed.

    `memory_bytes`: address space a job may take. `cpu_seconds`: what all jobs together may take; then the process ends.
    """
    layers = _shut_in(connection.fileno(), memory_bytes, cpu_seconds)
    with connection, suppress(ConnectionError):  # the service is gone
        _send(connection, encode_ready(layers))
        while (job := _receive_job(connection)) is not None:
            descriptors, request, limits = job
            try:
                _answer(connection, descriptors, request, limits)
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
                gc.collect()  # PyAV's containers and streams refer to each other: 24 MB for each 720p file until then


def _shut_in(connection: int, memory_bytes: int, cpu_seconds: int) -> tuple[Layer, ...]:
    assert "torch" not in sys.modules, "a decoder worker has no room for torch"
    # Among what the fork server passes on is the pipe by which it learns that the service is gone.
    os.closerange(3, connection)
    os.closerange(connection + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    die_with_parent()
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    libc.mallopt(_M_ARENA_MAX, 1)  # one heap for all threads: of four, 62 MB for 720p instead of 83
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which lets running requests end
    nowhere = tempfile.mkdtemp()
    os.chdir(nowhere)
    Path(nowhere).rmdir()  # a relative name now leads nowhere, and nothing can be made here
    return confine(connection, memory_bytes, cpu_seconds)


def _receive_job(connection: socket.socket) -> tuple[list[int], MediaRequest, MediaLimits] | None:
    """The next job, with the descriptors of its file; None when there will be no more."""
    lengths, descriptors, _, _ = socket.recv_fds(connection, LENGTHS.size, 2)
    if not lengths:
        return None
    header_bytes, _ = LENGTHS.unpack(lengths)
    header = bytearray()
    while len(header) < header_bytes:
        part = connection.recv(header_bytes - len(header))
        if not part:
            return None
        header += part
    return descriptors, *decode_job(bytes(header))


def _answer(connection: socket.socket, descriptors: list[int], request: MediaRequest, limits: MediaLimits) -> None:
    """Send every event. The socket's buffer is the credit: sending waits until the service has taken what is there."""
    try:
        for event in read_media(_opened(descriptors, request), request, limits):
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


def _opened(descriptors: list[int], request: MediaRequest) -> SocketFile | DescriptorFile:
    """The file to read, behind the first descriptor. For a file that still grows, the second is its pipe of signals."""
    match request.source:
        case "arriving":
            return SocketFile(descriptors[0])
        case "growing":
            return GrowingFile(descriptors[0], descriptors[1])
        case _:
            return DescriptorFile(descriptors[0])


def _send(connection: socket.socket, parts: list[bytes | memoryview]) -> None:
    for part in parts:
        connection.sendall(part)
