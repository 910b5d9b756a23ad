"""Says in one line why the service does not start, where the operator can repair that. Pure ASGI."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ModelRejected, OutdatedLibrary


class Opening:
    """Reports a failed start in the error's own words; of errors that nobody foresaw the server logs the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        failed: list[Message] = []  # Starlette's own, whose message is a traceback

        async def send_or_keep(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await self.app(scope, receive, send_or_keep)
        except (ModelRejected, OutdatedLibrary) as error:
            failed = [{**message, "message": str(error)} for message in failed]
            raise
        finally:
            for message in failed:
                await send(message)
