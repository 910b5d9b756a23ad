"""Who may ask, and where: API keys, origins of pages, the port for operations. Pure ASGI, before any body is read."""

from contextlib import ExitStack
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.keys import KeyRing
from app.api.problems import send_problem
from app.errors import Forbidden, ServiceError, UnknownRoute

IS_OPERATIONS = "is_operations"
"""Set in the state of requests that come over the port for operations."""
SUBPROTOCOL = "afterframe"
KEY_SUBPROTOCOL = "afterframe.key."
"""Pages cannot set headers of a WebSocket; they ask for these two subprotocols, the second ending in the key."""


@dataclass(frozen=True, slots=True)
class Routes:
    operations: frozenset[str]
    """Paths that need no key. With a port of their own they are answered only there, and nothing else is."""
    have_own_port: bool
    public: frozenset[str]
    """Paths that need no key either: what people read."""
    streams: frozenset[str]
    """WebSockets."""


class Access:
    """Refuses who may not ask with 401, 403, 404 or 429; all else goes on."""

    def __init__(self, app: ASGIApp, routes: Routes, keys: KeyRing | None, origins: frozenset[str]) -> None:
        """Without `keys` everybody may ask. `origins`: those of other pages that may open streams; `*`: all."""
        self.app = app
        self.routes = routes
        self.keys = keys
        self.origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                self._check_route(scope)
                self._check_key(scope, held)
            except ServiceError as error:
                await send_problem(error, scope, send)
                return
            await self.app(scope, receive, _choosing_subprotocol(scope, send))

    def _check_route(self, scope: Scope) -> None:
        path, routes = scope["path"], self.routes
        if not path.isprintable():  # Starlette takes "/metrics\n" for "/metrics": `$` matches before a last line feed
            raise UnknownRoute
        is_operations = scope["state"].get(IS_OPERATIONS, False)
        if routes.have_own_port and is_operations != (path in routes.operations):
            raise UnknownRoute
        if scope["type"] == "websocket":
            if path not in routes.streams:
                raise UnknownRoute
            self._check_origin(Headers(scope=scope))

    def _check_origin(self, headers: Headers) -> None:
        """Browsers let any page open a WebSocket to anywhere, and only say whose it is."""
        origin = headers.get("origin")
        if origin is None or "*" in self.origins or origin in self.origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise Forbidden("Pages of another origin may not open streams here.")

    def _check_key(self, scope: Scope, held: ExitStack) -> None:
        path = scope["path"]
        if self.keys is None or path in self.routes.operations or path in self.routes.public:
            return
        key, share = self.keys.find(_presented(scope), path)
        scope["state"]["record"].key = key.name
        held.enter_context(share.request(key))


def _presented(scope: Scope) -> str | None:
    """The key that a request came with."""
    headers = Headers(scope=scope)
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    asked = (name for name in scope.get("subprotocols", ()) if name.startswith(KEY_SUBPROTOCOL))
    return headers.get("x-api-key") or next(asked, "").removeprefix(KEY_SUBPROTOCOL)


def _choosing_subprotocol(scope: Scope, send: Send) -> Send:
    """`send` that says which subprotocol it is, without which a browser that asked for one hangs up."""
    if SUBPROTOCOL not in scope.get("subprotocols", ()):
        return send

    async def send_choosing(message: Message) -> None:
        await send({**message, "subprotocol": SUBPROTOCOL} if message["type"] == "websocket.accept" else message)

    return send_choosing
