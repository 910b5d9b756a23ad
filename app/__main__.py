"""`python -m app` serves, with the settings in the environment."""

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api.problems import MEDIA_TYPE, problem_body
from app.config import Settings
from app.main import create_app
from app.telemetry import configure_logging


class ProblemH11Protocol(H11Protocol):
    """Answers what is not HTTP with problem+json too, like every other error. h11 bounds headers to 64 KiB."""

    def send_400_response(self, msg: str) -> None:
        body = problem_body(400, "Malformed request", "What was sent is not HTTP/1.1.", "")
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def main() -> None:
    settings = Settings()
    configure_logging(settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=ProblemH11Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )


if __name__ == "__main__":
    main()
