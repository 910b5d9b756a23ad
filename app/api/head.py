"""HEAD: what GET would answer, without its body (RFC 9110, section 9.3.2). Pure ASGI.

Load balancers probe with it. FastAPI's routes know GET alone; Starlette's own know both.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Head:
    """Asks for HEAD as for GET; that it was HEAD is known outside, where the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_allowing(message: Message) -> None:
            if message.get("status") == 405:
                headers = MutableHeaders(scope=message)
                if headers.get("allow") == "GET":
                    headers["allow"] = "GET, HEAD"
            await send(message)

        asked = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        try:
            await self.app(asked, receive, send_allowing)
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]  # for the log line and the metrics
