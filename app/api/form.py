"""A multipart body (RFC 7578), as its bytes come: its files are cut out, its text is kept."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import MalformedRequest, UploadTooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

NAMELESS = "upload"
MAX_NAME_LENGTH = 255  # what file systems take


@dataclass(frozen=True, slots=True)
class FormLayout:
    """What a form may have."""

    files: Mapping[str, int]
    """How many files each such field may have. The form must have at least one file."""
    texts: frozenset[str] = frozenset()
    """Fields that are text, and kept."""
    passes_over_others: bool = True
    """Whether fields that are neither are ignored; else they are refused, so that typos do not pass."""
    max_file_bytes: Mapping[str, int] = field(default_factory=dict)
    """Of each file of a field; those that are not named here may have any size."""
    max_fields: int = 8
    """Beside the files."""
    max_other_bytes: int = 2**20
    """Of all that is in no file."""


ONE_FILE = FormLayout(files={"file": 1})


@dataclass(slots=True)
class FormPart:
    """A file, and where it lies in the bytes that `Form.feed` gave out."""

    field: str
    start: int
    end: int


class Form:
    """Takes apart a form that comes in pieces. Raises MalformedRequest or UploadTooLarge wherever that fails.

    The parser bounds the headers of a part, in number and size.
    """

    def __init__(self, content_type: str, layout: FormLayout) -> None:
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
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise MalformedRequest("The form's boundary is not valid.") from error
        self.name = NAMELESS
        """The last part of the path that the form names for its last file, without what cannot be printed."""
        self.files: list[FormPart] = []
        self.texts: dict[str, str] = {}
        self._layout = layout
        self._found: list[memoryview] = []  # of files, since `feed` was called
        self._file: FormPart | None = None  # that the parser is in
        self._text: str | None = None  # the field that the parser is in
        self._kept = bytearray()  # of that field
        self._num_fields = 0
        self._num_other_bytes = 0
        self._is_ended = False
        self._header_name, self._header_value = bytearray(), bytearray()
        self._disposition = b""

    def feed(self, data: bytes) -> list[memoryview]:
        """The parts of the next piece of the body that belong to files; they are not copied."""
        self._found = []
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MalformedRequest("The multipart body cannot be read.") from error
        return self._found

    def finish(self) -> None:
        """There are no more pieces."""
        if not self._is_ended:
            raise MalformedRequest("The multipart body ends too early.")
        if not self.files:
            raise MalformedRequest(f"The form has no field {' or '.join(map(repr, self._layout.files))}.")

    def _begin_part(self) -> None:
        self._file, self._text, self._disposition = None, None, b""
        self._kept.clear()

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
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name in self._layout.files:
            self._begin_file(name, options.get(b"filename"))
            return
        self._num_fields += 1
        if self._num_fields > self._layout.max_fields:
            raise MalformedRequest(f"The form has more than {self._layout.max_fields} fields besides its files.")
        if name in self._layout.texts:
            if b"filename" in options:
                raise MalformedRequest(f"The form's field '{name}' is a file, not text.")
            if name in self.texts:
                raise MalformedRequest(f"The form has more than one field '{name}'.")
            self._text = name
        elif not self._layout.passes_over_others:
            known = ", ".join(sorted({*self._layout.files, *self._layout.texts}))
            raise MalformedRequest(f"The form has an unknown field '{_printable(name)}'; it may have {known}.")

    def _begin_file(self, name: str, file_name: bytes | None) -> None:
        if file_name is None:
            raise MalformedRequest(f"The form's field '{name}' is text, not a file (with curl: -F {name}=@video.mp4).")
        most = self._layout.files[name]
        if sum(file.field == name for file in self.files) == most:
            raise MalformedRequest(f"The form has more than {'one file' if most == 1 else f'{most} files'} '{name}'.")
        at = self.files[-1].end if self.files else 0
        self._file = FormPart(name, at, at)
        self.files.append(self._file)
        self.name = _base_name(file_name.decode("utf-8", "replace"))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._found.append(memoryview(data)[start:end])
            self._file.end += end - start
            most = self._layout.max_file_bytes.get(self._file.field)
            if most is not None and self._file.end - self._file.start > most:
                raise UploadTooLarge(f"A file in the field '{self._file.field}' has more than {most} bytes.")
            return
        self._num_other_bytes += end - start
        if self._num_other_bytes > self._layout.max_other_bytes:
            raise MalformedRequest(
                f"The form's fields besides its files have more than {self._layout.max_other_bytes} bytes."
            )
        if self._text is not None:
            self._kept += data[start:end]

    def _end_part(self) -> None:
        if self._text is not None:
            self.texts[self._text] = self._kept.decode("utf-8", "replace")

    def _end(self) -> None:
        """The closing delimiter has come, which alone tells a form that is whole from one that was cut off."""
        self._is_ended = True


def _base_name(given: str) -> str:
    return re.split(r"[/\\]", _printable(given))[-1][:MAX_NAME_LENGTH] or NAMELESS


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())
