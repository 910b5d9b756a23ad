"""Files behind open descriptors: complete ones, and such as somebody still writes to."""

import os
import time

from app.media.socket_file import SocketFile

_SIGNALS = 4096  # bytes, each of which says only that there is more


class GrowingFile(SocketFile):
    """Reads a file on disk that somebody still writes to, as if it came over a socket."""

    def __init__(self, descriptor: int, growth: int) -> None:
        """`growth`: a pipe in which there is something to read when the file has grown, and which ends with it."""
        super().__init__(descriptor)
        self._growth = growth
        self._offset = 0
        self.has_ended = False
        """Nothing more is written to it, and that has been noticed."""
        self.waited_seconds = 0.0

    def _receive(self, size: int) -> bytes:
        while not (data := os.pread(self._descriptor, size, self._offset)):
            if self.has_ended:
                return b""
            self._wait()  # at the end, what came between the two is still to be read
        self._offset += len(data)
        return data

    def rewind(self) -> None:
        """What is read next is its beginning."""
        self._offset, self._peeked = 0, b""

    def whole(self) -> "DescriptorFile":
        """The file from its beginning, once nothing is written to it any more."""
        while not self.has_ended:
            self._wait()
        return DescriptorFile(self._descriptor)

    def _wait(self) -> None:
        began = time.perf_counter()
        self.has_ended = not os.read(self._growth, _SIGNALS)
        self.waited_seconds += time.perf_counter() - began


class DescriptorFile:
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
