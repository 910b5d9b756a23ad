"""The uploaded file, spooled to disk once, from a multipart body or a raw one."""

import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from anyio import to_thread
from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from app.errors import MalformedRequest

FIELD = "file"
NAMELESS = "upload"
MAX_NAME_LENGTH = 255  # what file systems take
WRITE_BYTES = 2**20  # one hop to a thread per MiB, not per network read


@asynccontextmanager
async def spooled(request: Request) -> AsyncIterator[tuple[IO[bytes], str]]:
    """An unnamed file on disk with the upload's bytes, gone when the context ends, and the name the client gave it.

    `multipart/form-data` carries the file in the field `file`; with any other Content-Type the body is the file.
    Raises MalformedRequest when there is none, or when the client leaves before the end.
    """
    try:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() == "multipart/form-data":
            async with request.form(max_files=1, max_fields=8) as form:
                part = form.get(FIELD)
                yield await _form_file(part), _name(part)
        else:
            with tempfile.TemporaryFile() as file:
                await _spool_body(request, file)
                yield file, NAMELESS
    except ClientDisconnect as gone:
        raise MalformedRequest("The upload ended before its last byte.") from gone


async def _form_file(part: UploadFile | str | None) -> IO[bytes]:
    if part is None:
        raise MalformedRequest(f"The form has no field '{FIELD}'.")
    if isinstance(part, str):
        raise MalformedRequest(f"The form's field '{FIELD}' is text, not a file (with curl: -F {FIELD}=@video.mp4).")
    if not part.size:
        raise MalformedRequest("The file is empty.")
    await to_thread.run_sync(_put_on_disk, part.file)
    return part.file


def _name(part: UploadFile | str | None) -> str:
    """The last part of the path that a form names, without what cannot be printed."""
    given = (part.filename or "") if isinstance(part, UploadFile) else ""
    printable = "".join(letter for letter in given if letter.isprintable())
    return re.split(r"[/\\]", printable)[-1][:MAX_NAME_LENGTH] or NAMELESS


def _put_on_disk(file: IO[bytes]) -> None:
    """The form parser keeps small files in memory; asking for a descriptor moves them to disk."""
    file.fileno()
    file.flush()


async def _spool_body(request: Request, file: IO[bytes]) -> None:
    pending = bytearray()
    size = 0
    async for chunk in request.stream():
        pending += chunk
        size += len(chunk)
        if len(pending) >= WRITE_BYTES:
            await to_thread.run_sync(file.write, bytes(pending))
            pending.clear()
    if not size:
        raise MalformedRequest("The body is empty: send the file as the body, or as the form field 'file'.")
    await to_thread.run_sync(file.write, bytes(pending))
    await to_thread.run_sync(file.flush)
