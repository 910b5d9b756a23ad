"""A file that is still being sent: read once, forwards, from a socket."""

import os


class SocketFile:
    """Reads an open socket. Knows no way back, which tells FFmpeg not to look for one."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._peeked = b""

    def read(self, size: int = -1, /) -> bytes:
        """What has come, up to `size` bytes: waits for at least one, and gives none only at the end."""
        if self._peeked:
            data, self._peeked = self._peeked[:size], self._peeked[size:]
            return data
        return self._receive(size)

    def peek(self, size: int) -> bytes:
        """The first `size` bytes, fewer at the end, which `read` will give again."""
        while len(self._peeked) < size and (more := self._receive(size - len(self._peeked))):
            self._peeked += more
        return self._peeked

    def _receive(self, size: int) -> bytes:
        return os.read(self._descriptor, size)
