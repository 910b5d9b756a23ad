"""Every way a request can fail, for a reason that the client may know.

ServiceError
├── MalformedRequest      400  the request itself cannot be read
├── UnknownModel          404  no such model, or no such version of it
├── LengthRequired        411  a body without a length where one is needed
├── UploadTooLarge        413  more bytes than the limit
├── UnsupportedMedia      415  not a video or a sound we take
├── InvalidMedia          422  we take the kind, but this file gives no picture or no sound
│   └── MediaTooLarge     422  over a limit of seconds, pixels, streams or memory
├── Overloaded            429  no free place; `retry_after_seconds` says when to come back
├── NotReady              503  models are still being loaded, or the service is stopping
└── DeadlineExceeded      504  not finished by the deadline

A message states the fact, the value and the limit, to the person who sent the file: no paths, no reprs.
`app.api.problems` turns each into problem+json (RFC 9457). `ModelRejected` is for the operator, not a client:
a model that may not be served stops the start.
"""


class ServiceError(Exception):
    """A failure that the client is told about; `str(error)` is the problem's `detail`."""

    status: int = 500
    title: str = "Internal error"


class MalformedRequest(ServiceError):
    status = 400
    title = "Malformed request"


class UnknownModel(ServiceError):
    status = 404
    title = "Unknown model"


class LengthRequired(ServiceError):
    status = 411
    title = "Length required"


class UploadTooLarge(ServiceError):
    status = 413
    title = "Upload too large"


class UnsupportedMedia(ServiceError):
    status = 415
    title = "Unsupported media"


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


class NotReady(ServiceError):
    status = 503
    title = "Not ready"


class DeadlineExceeded(ServiceError):
    status = 504
    title = "Deadline exceeded"


class ModelRejected(Exception):
    """A model that may not be served: its hash, manifest, golden output or methods are not what they claim."""
