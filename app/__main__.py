"""`python -m app` serves, with the settings in the environment."""
# ruff: noqa: E402

import gc

# Imports and models make a million objects that stay, and next to no garbage: to look for it meanwhile takes 8 % of the
# time of the imports. The service collects once it is ready, and from then on as usual.
gc.disable()

import logging
import os
import resource
import sys
from contextlib import suppress

from pydantic import ValidationError

from app.api.keys import KeyFileRejected
from app.api.protocol import ServingConfig
from app.api.server import START_FAILED, Server
from app.config import PREFIX, Settings, doubtful, misspelt, refused
from app.main import create_app
from app.telemetry import configure_logging

KEEP_ALIVE_SECONDS = 75  # longer than load balancers keep theirs, so that it is never us who close first

logger = logging.getLogger("afterframe.settings")


def main() -> None:
    if complaints := misspelt(os.environ):
        sys.exit("\n".join(complaints))
    try:
        settings = Settings()
    except ValidationError as error:
        sys.exit("\n".join(refused(error)))
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        del os.environ[name]  # decoder workers inherit the rest, and no keys
    configure_logging(settings.log_level)
    for doubt in doubtful(settings):
        logger.warning("%s", doubt)
    try:
        app = create_app(settings)
    except KeyFileRejected as error:
        sys.exit(str(error))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # many systems begin with 1024, one per connection
    config = ServingConfig(
        app,
        patience_seconds=settings.patience_seconds,
        min_bytes_per_second=settings.min_upload_bytes_per_second,
        max_connections=settings.max_connections,
        host=settings.host,
        port=settings.port,
        ws_max_size=settings.max_message_bytes,
        ws_per_message_deflate=False,  # pictures and video are compressed already
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    # What has come whole by then can still be worked on until its deadline.
    upload_seconds = max(0.0, settings.shutdown_seconds - settings.deadline_seconds)
    server = Server(config, settings.operations_port, upload_seconds)
    with suppress(KeyboardInterrupt):  # it has ended in good order by then
        server.run()
    if not server.started:
        sys.exit(START_FAILED)


if __name__ == "__main__":
    main()
