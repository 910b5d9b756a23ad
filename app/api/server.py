"""uvicorn, with a port for operations and an end that drops nothing."""

import asyncio
import logging
import socket
import sys

import uvicorn
from uvicorn.server import ServerState

from app.api.access import IS_OPERATIONS
from app.api.protocol import HttpProtocol, ServingConfig
from app.api.service import Service
from app.api.stream_connection import GOODBYE_SECONDS

START_FAILED = 3  # uvicorn's own
NOTICE_SECONDS = 0.3  # for a request that was on its way when the service was told to stop: it gets its 503

logger = logging.getLogger("afterframe.server")


class Server(uvicorn.Server):
    """Serves the application, and what is for operations on a port of its own where there is one."""

    config: ServingConfig

    def __init__(self, config: ServingConfig, operations_port: int | None, upload_seconds: float) -> None:
        """`upload_seconds`: how long uploads that have begun may still take when the service is told to stop."""
        super().__init__(config)
        self.operations_port = operations_port
        self.upload_seconds = upload_seconds
        self._operations: asyncio.Server | None = None
        self._operations_state = ServerState()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.operations_port is not None:
            await self._listen_for_operations(self.operations_port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets nobody in, lets all who are in finish, within the grace; says to streams where they stand."""
        service: Service = self.lifespan.state["service"]
        service.places.stop()
        for _ in range(2):
            await asyncio.sleep(0)  # whoever has connected by now is let in to be told
        for server in self.servers:
            server.close()
        ending = asyncio.get_running_loop().call_later(self.upload_seconds, service.places.end_uploads)
        await asyncio.gather(asyncio.sleep(NOTICE_SECONDS), service.stream.sessions.stop(GOODBYE_SECONDS))
        await super().shutdown(sockets)
        ending.cancel()
        if self._operations is not None:
            self._operations.close()
            for connection in list(self._operations_state.connections):
                connection.shutdown()

    async def _listen_for_operations(self, port: int) -> None:
        """Liveness, readiness and metrics answer there until the very end."""

        def protocol() -> HttpProtocol:
            state = {**self.lifespan.state, IS_OPERATIONS: True}
            return HttpProtocol(self.config, self._operations_state, state)

        try:
            self._operations = await asyncio.get_running_loop().create_server(protocol, self.config.host, port)
        except OSError as error:
            logger.error("the port for operations: %s", error)
            await self.lifespan.shutdown()
            sys.exit(START_FAILED)
        port = self._operations.sockets[0].getsockname()[1]
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        logger.info("Operations on http://%s:%d", host, port)
