"""h11 with limits: what it would let pass, and no client of good will sends."""

import re
from http import HTTPStatus

import h11

MAX_HEADER_BYTES = 2**16
CRUMBS = 1024
"""Parts of a body after which they must have been of `MIN_PART_BYTES` on average."""
MIN_PART_BYTES = 256
"""A chunk costs some 25 µs however small it is: those of one byte in one read would hold all others up for a second."""
ABSOLUTE_FORM = re.compile(rb"https?://([^/?#@]+)(.*)", re.IGNORECASE)


class StrictConnection(h11.Connection):
    """Refuses headers over the limit also where they come at once, two lengths, and bodies in crumbs; remembers why."""

    refusal: h11.RemoteProtocolError | None = None
    _num_parts = 0
    _num_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._num_parts = self._num_bytes = 0
                self._check_header(event)
                event = _origin_form(event)
            elif isinstance(event, h11.Data):
                self._check_part(event)
        except h11.RemoteProtocolError as error:
            self.refusal = error
            raise
        return event

    def _check_header(self, request: h11.Request) -> None:
        lines = sum(len(name) + len(value) + len(b": \r\n") for name, value in request.headers)
        if len(request.target) + lines > MAX_HEADER_BYTES:
            raise h11.RemoteProtocolError("header over the limit", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
            # A proxy may go by the other one, and take the end of this request for another (RFC 9112, section 6.1).
            raise h11.RemoteProtocolError("two lengths")

    def _check_part(self, part: h11.Data) -> None:
        self._num_parts += 1
        self._num_bytes += len(part.data)
        if self._num_parts > CRUMBS and self._num_bytes < self._num_parts * MIN_PART_BYTES:
            raise h11.RemoteProtocolError("body in crumbs")


def _origin_form(request: h11.Request) -> h11.Request:
    """`request` for a path, also where it names the whole address, as to a proxy (RFC 9112, section 3.2.2)."""
    found = ABSOLUTE_FORM.match(request.target)
    if found is None:
        return request
    host, rest = found.groups()
    headers = [(name, host if name == b"host" else value) for name, value in request.headers]
    target = rest if rest.startswith(b"/") else b"/" + rest
    return h11.Request(method=request.method, headers=headers, target=target, http_version=request.http_version)
