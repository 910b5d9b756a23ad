"""The one file of a multipart body (RFC 7578), as its bytes come."""

import re
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import MalformedRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "file"
NAMELESS = "upload"
MAX_FIELDS = 8
MAX_FIELD_BYTES = 2**20  # of all fields beside the file
MAX_NAME_LENGTH = 255  # what file systems take


class FormFile:
    """Cuts the file out of a form that comes in pieces. Raises MalformedRequest wherever that cannot be.

    The parser bounds the headers of a part, in number and size.
    """

    def __init__(self, content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedRequest("The form's Content-Type names no boundary.")
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._take_header_name,
            "on_header_value": self._take_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take_data,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise MalformedRequest("The form's boundary is not one.") from error
        self.name = NAMELESS
        """The last part of the path that the form names, without what cannot be printed."""
        self._found: list[memoryview] = []  # of the file, since `feed` was called
        self._has_file = False
        self._in_file = False
        self._num_fields = 0
        self._num_bytes_aside = 0
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition = b""

    def feed(self, data: bytes) -> list[memoryview]:
        """The parts of the next piece of the body that are of the file; they are not copied."""
        self._found = []
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedRequest("The multipart body cannot be read.") from error
        return self._found

    def finish(self) -> None:
        """There are no more pieces."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise MalformedRequest("The multipart body ends too early.") from error
        if not self._has_file:
            raise MalformedRequest(f"The form has no field '{FIELD}'.")

    def _begin_part(self) -> None:
        self._in_file, self._disposition = False, b""
        self._num_fields += 1
        if self._num_fields > MAX_FIELDS:
            raise MalformedRequest(f"The form has more than {MAX_FIELDS} fields.")

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if options.get(b"name", b"").decode("utf-8", "replace") != FIELD:
            return
        if b"filename" not in options:
            raise MalformedRequest(
                f"The form's field '{FIELD}' is text, not a file (with curl: -F {FIELD}=@video.mp4)."
            )
        if self._has_file:
            raise MalformedRequest(f"The form has more than one file '{FIELD}'.")
        self._has_file = self._in_file = True
        self.name = _base_name(options[b"filename"].decode("utf-8", "replace"))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._found.append(memoryview(data)[start:end])
            return
        self._num_bytes_aside += end - start
        if self._num_bytes_aside > MAX_FIELD_BYTES:
            raise MalformedRequest(f"The fields beside '{FIELD}' have more than {MAX_FIELD_BYTES} bytes.")


def _base_name(given: str) -> str:
    printable = "".join(letter for letter in given if letter.isprintable())
    return re.split(r"[/\\]", printable)[-1][:MAX_NAME_LENGTH] or NAMELESS
