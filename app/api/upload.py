"""Uploads, spooled to disk once, from a multipart body or a raw one; they can be read while they are written."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from anyio import to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from app.api.form import NAMELESS, ONE_FILE, Form, FormLayout
from app.api.places import Places
from app.api.service import service_of
from app.errors import MalformedRequest

WRITE_BYTES = 2**20
"""Written at once, by one hop to a thread instead of one per network read, unless somebody reads the file meanwhile."""
MAX_UNWRITTEN_BYTES = 2**24
"""Of all uploads together, roughly. Beyond it all is written as it comes: a thousand stalled uploads may not keep a MiB
each."""
_MAX_PIECES = os.sysconf("SC_IOV_MAX")
HEAD_BYTES = 2**12  # enough to tell what kind of file it is


class Spool:
    """One upload on its way to an unnamed file on disk."""

    def __init__(self, request: Request, descriptor: int, layout: FormLayout, places: Places) -> None:
        """Raises MalformedRequest where the body is a form that cannot be read."""
        self._request = request
        self.descriptor = descriptor
        content_type = request.headers.get("content-type", "")
        is_form = content_type.split(";")[0].strip().lower() == "multipart/form-data"
        self.form = Form(content_type, layout) if is_form else None
        """Where the form's files lie in the spooled file, and its text fields; complete once the upload is. None: the
        body itself is the file."""
        self.seconds = 0.0
        """How long the upload took; known once it is complete."""
        self.growth: int | None = None
        """A pipe that has something to read when the file has grown; there once `watch` was called."""
        self._grow: int | None = None  # its other end
        self._places = places
        self._pending: list[memoryview] = []
        self._num_pending = 0  # bytes
        self._num_written = 0
        self._flushing = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None  # what was taken off `_pending` last
        self._has_head = asyncio.Event()
        self.finished: asyncio.Future[None] = asyncio.ensure_future(self._run())
        """Done when the last byte is on disk. Raises MalformedRequest where there is no file, or the client leaves
        before its end, and what the server's limits raise."""

    @property
    def name(self) -> str:
        """What the client called the file."""
        return self.form.name if self.form is not None else NAMELESS

    async def finishes_within(self, seconds: float) -> bool:
        """Whether the last byte is there by then."""
        await asyncio.wait({self.finished}, timeout=seconds)
        return self.finished.done()

    async def watch(self) -> bytes:
        """The first bytes of the file, up to HEAD_BYTES. From now on each byte is written as soon as it has come."""
        self.growth, self._grow = os.pipe()
        os.set_blocking(self._grow, False)
        await self._flush()
        await self._has_head.wait()
        if self.finished.done():
            self._end_growth()
        return os.pread(self.descriptor, HEAD_BYTES, 0)

    async def close(self) -> None:
        """Nothing more is taken of the body."""
        self.finished.cancel()
        # A thread that writes cannot be stopped, and its descriptor must not become that of another file.
        await asyncio.gather(self.finished, *filter(None, [self._writing]), return_exceptions=True)
        self._places.unwritten_bytes -= self._num_pending
        self._pending, self._num_pending = [], 0
        self._end_growth()
        if self.growth is not None:
            os.close(self.growth)
            self.growth = None

    async def _run(self) -> None:
        started = time.perf_counter()
        form = self.form
        try:
            async for piece in self._request.stream():
                self._take([memoryview(piece)] if form is None else form.feed(piece))
                if self._num_pending and self._is_urgent():
                    await self._flush()
            if form is not None:
                form.finish()
            await self._flush()
            await self._written()
        except ClientDisconnect as gone:
            raise MalformedRequest("The upload ended before its last byte.") from gone
        finally:
            self._has_head.set()  # there will be no more of it
            self._end_growth()
        if not self._num_written:
            raise MalformedRequest(
                "The body is empty: send the file as the body, or as the form field 'file'."
                if form is None
                else "The file is empty."
            )
        self.seconds = time.perf_counter() - started

    def _is_urgent(self) -> bool:
        """Whether what is pending must be written now."""
        much = self._num_pending >= WRITE_BYTES or self._places.unwritten_bytes > MAX_UNWRITTEN_BYTES
        return much or self._grow is not None

    def _take(self, pieces: list[memoryview]) -> None:
        num_bytes = sum(map(len, pieces))
        self._pending += pieces
        self._num_pending += num_bytes
        self._places.unwritten_bytes += num_bytes

    async def _flush(self) -> None:
        """Begins to write what is pending, once what was written before is on disk; does not wait for its end."""
        async with self._flushing:
            await self._written()
            if self._num_pending:
                self._writing = asyncio.create_task(self._write(self._pending, self._num_pending))
                self._pending, self._num_pending = [], 0

    async def _written(self) -> None:
        """Waits until what `_flush` has begun to write is on disk."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write(self, pieces: list[memoryview], num_bytes: int) -> None:
        try:
            await to_thread.run_sync(_write, self.descriptor, pieces)
        finally:
            self._places.unwritten_bytes -= num_bytes
        self._num_written += num_bytes
        if self._num_written >= HEAD_BYTES:
            self._has_head.set()
        if self._grow is not None:
            with suppress(BlockingIOError):  # there is more than enough to read in the pipe
                os.write(self._grow, b"\0")

    def _end_growth(self) -> None:
        if self._grow is not None:
            os.close(self._grow)
            self._grow = None


@asynccontextmanager
async def spooling(request: Request, layout: FormLayout = ONE_FILE) -> AsyncIterator[Spool]:
    """The upload, which has only begun; its file is gone when the context ends.

    `layout`: of a form. Raises MalformedRequest where it is a form that cannot be read.
    """
    with tempfile.TemporaryFile(buffering=0) as file:
        spool = Spool(request, file.fileno(), layout, service_of(request).places)
        try:
            yield spool
        finally:
            await spool.close()


def _write(descriptor: int, pieces: list[memoryview]) -> None:
    """Writes all pieces without joining them first, which would copy each byte once more."""
    at = 0
    while at < len(pieces):
        written = os.writev(descriptor, pieces[at : at + _MAX_PIECES])
        while at < len(pieces) and written >= len(pieces[at]):
            written -= len(pieces[at])
            at += 1
        if written:
            pieces[at] = pieces[at][written:]
