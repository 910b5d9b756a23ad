"""One file that several threads read, each from a place of its own."""

from io import SEEK_CUR, SEEK_END, SEEK_SET
from threading import Lock
from typing import BinaryIO

from app.media.probe import Readable


class SharedFile:
    """One reader of the file. All of them are given the same `lock`."""

    def __init__(self, file: BinaryIO | Readable, lock: Lock) -> None:
        self._file = file
        self._lock = lock
        self._offset = 0

    def read(self, size: int = -1, /) -> bytes:
        with self._lock:
            self._file.seek(self._offset)
            data = self._file.read(size)
        self._offset += len(data)
        return data

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        with self._lock:
            start = {SEEK_SET: 0, SEEK_CUR: self._offset, SEEK_END: self._file.seek(0, SEEK_END)}[whence]
        self._offset = max(0, start + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset
