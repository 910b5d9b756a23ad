"""Reads files while they are written."""

import os
from collections.abc import Iterator
from pathlib import Path

from app.media.decode import read_media
from app.media.descriptors import GrowingFile
from app.media.request import MediaEvent, MediaRequest

PIECES = 9


class Writer:
    """Writes `data` to a file in PIECES, each when it is told to."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.pieces = [data[len(data) * k // PIECES : len(data) * (k + 1) // PIECES] for k in range(PIECES)]
        self._file = path.open("wb", buffering=0)
        self.descriptor = os.open(path, os.O_RDONLY)
        self.growth, self._grow = os.pipe()

    def write_next(self) -> None:
        self._file.write(self.pieces.pop(0))
        if self.pieces:
            os.write(self._grow, b"\0")
        else:
            self._file.close()
            os.close(self._grow)


def read_growing(path: Path, data: bytes, request: MediaRequest, *, at_once: bool = False) -> Iterator[MediaEvent]:
    """The events; each piece is written when the reader has found nothing more to read."""
    writer = Writer(path, data)

    class Greedy(GrowingFile):
        def _wait(self) -> None:
            writer.write_next()
            super()._wait()

    while at_once and writer.pieces:
        writer.write_next()
    kind = GrowingFile if at_once else Greedy
    yield from read_media(kind(writer.descriptor, writer.growth), request)
    os.close(writer.descriptor)
    os.close(writer.growth)
