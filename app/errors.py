"""Every way a request can fail, for a reason that the client may know.

ServiceError
├── MalformedRequest      400  the request cannot be read, or asks for something impossible
├── InvalidStateToken     401  a state that this service did not sign, or whose time has passed
├── KeyRequired           401  no API key, or none of ours
├── Forbidden             403  a key, or a page of another origin, that may not do this
├── UnknownRoute          404  nothing at this path
├── UnknownModel          404  no such model, or no such version of it
├── UnknownSession        404  no such session, or no longer
├── StateMismatch         409  a state of another model, or of another version
├── TimeLimit             408  an upload or session that sends too little, a session that lasts too long
├── LengthRequired        411  a body without a length where one is needed
├── UploadTooLarge        413  more bytes than the limit
├── StateTooLarge         413  a state that would take, or takes, more bytes than the limit
├── UnsupportedMedia      415  not a kind of video or sound that we support
├── UnsupportedEncoding   415  a body that is compressed once more, by HTTP
├── InvalidMedia          422  a supported kind, but this file gives no picture or no sound
│   └── MediaTooLarge     422  over a limit of seconds, pixels, streams or memory
├── Overloaded            429  no free place; `retry_after_seconds` says when to come back
│   └── KeyExhausted      429  more than this API key may ask for
├── OutOfResources        503  no memory, or no file handle, for this request
├── NotReady              503  the service is stopping
├── DeadlineExceeded      504  not finished by the deadline
└── OutOfStorage          507  no room for the upload

A message states the fact, the value and the limit, to the person who sent the file: no paths, no reprs.
`app.api.problems` turns each into problem+json (RFC 9457). `ModelRejected` and `OutdatedLibrary` are for the
operator, not a client: they stop the start.
"""


class ServiceError(Exception):
    """A failure that the client is told about; `str(error)` is the problem's `detail`."""

    status: int = 500
    title: str = "Internal error"


class MalformedRequest(ServiceError):
    status = 400
    title = "Malformed request"


class InvalidStateToken(ServiceError):
    status = 401
    title = "Invalid state"


class KeyRequired(ServiceError):
    status = 401
    title = "API key required"


class Forbidden(ServiceError):
    status = 403
    title = "Forbidden"


class UnknownRoute(ServiceError):
    status = 404
    title = "Not Found"

    def __init__(self) -> None:
        super().__init__("There is nothing at this path.")


class UnknownModel(ServiceError):
    status = 404
    title = "Unknown model"


class UnknownSession(ServiceError):
    status = 404
    title = "Unknown session"


class StateMismatch(ServiceError):
    status = 409
    title = "State of another model"


class TimeLimit(ServiceError):
    status = 408
    title = "Time limit"


class LengthRequired(ServiceError):
    status = 411
    title = "Length required"


class UploadTooLarge(ServiceError):
    status = 413
    title = "Upload too large"


class StateTooLarge(ServiceError):
    status = 413
    title = "State too large"


class UnsupportedMedia(ServiceError):
    status = 415
    title = "Unsupported media"


class UnsupportedEncoding(ServiceError):
    status = 415
    title = "Unsupported encoding"


class InvalidMedia(ServiceError):
    status = 422
    title = "Invalid media"


class MediaTooLarge(InvalidMedia):
    title = "Media over a limit"


class Overloaded(ServiceError):
    status = 429
    title = "Overloaded"

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class KeyExhausted(Overloaded):
    title = "API key exhausted"


class NotReady(ServiceError):
    status = 503
    title = "Not ready"

    def __init__(self) -> None:
        super().__init__("The service is stopping.")


class OutOfResources(ServiceError):
    status = 503
    title = "Out of resources"


class DeadlineExceeded(ServiceError):
    status = 504
    title = "Deadline exceeded"


class OutOfStorage(ServiceError):
    status = 507
    title = "Out of storage"


class ModelRejected(Exception):
    """A model that may not be served: its hash, manifest, golden output or methods are not what they claim."""


class OutdatedLibrary(Exception):
    """A library with a hole that is known and in reach of an upload."""
