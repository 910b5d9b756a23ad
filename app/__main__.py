"""`python -m app` serves, with the settings in the environment."""

import os
import socket
import sys
from contextlib import suppress

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.api.problems import MEDIA_TYPE, problem_body
from app.api.service import Service
from app.api.stream_connection import GOODBYE_SECONDS
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


class Server(uvicorn.Server):
    """Has live streams say where they stand before uvicorn closes their sockets without a word."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        service: Service = self.lifespan.state["service"]
        await service.stream.sessions.stop(GOODBYE_SECONDS)
        await super().shutdown(sockets)


def main() -> None:
    settings = Settings()
    for name in [name for name in os.environ if name.startswith("AFTERFRAME_")]:
        del os.environ[name]  # decoder workers inherit the rest, and no keys
    configure_logging(settings.log_level)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=ProblemH11Protocol,
        ws="websockets-sansio",
        ws_max_size=settings.max_message_bytes,
        ws_per_message_deflate=False,  # pictures and video are compressed already
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    server = Server(config)
    with suppress(KeyboardInterrupt):  # it has ended in good order by then
        server.run()
    if not server.started:
        sys.exit(3)  # uvicorn's own: the application did not start


if __name__ == "__main__":
    main()
