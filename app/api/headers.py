"""What every answer says to browsers: nothing may be embedded, sniffed or run; and which other pages may ask (CORS)."""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.preference import PARTIAL_HEADER

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'"
"""What an answer that is no page may load and run. A page says itself what it needs."""
DOCS = (
    "default-src 'none'; frame-ancestors 'none'; connect-src 'self'; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; style-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "img-src data: https://fastapi.tiangolo.com"
)
"""FastAPI's page loads Swagger UI from there and starts it inline."""


class SecurityHeaders:
    """Adds to every answer what it does not say already. Pure ASGI."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_secured(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", DOCS if scope["path"] == "/docs" else NOTHING)
            await send(message)

        await self.app(scope, receive, send_secured)


class CrossOrigin(CORSMiddleware):
    """Lets pages of these origins (`*`: of all) ask whatever any other client may."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Authorization", "X-API-Key", "X-Request-Id", "Traceparent", "Prefer", "Afterframe-State"),
            expose_headers=(
                *("X-Request-Id", "X-Model", "X-Model-License", "Retry-After", "Server-Timing"),
                *("Preference-Applied", PARTIAL_HEADER),
            ),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """An empty answer for origins that are not allowed, which a browser takes for a no; Starlette's has a text."""
        response = super().preflight_response(request_headers)
        return response if response.status_code == 200 else Response(status_code=204, headers={"Vary": "Origin"})


class OutermostResponse(Response):
    """One that Starlette sends outside of all middlewares, with what they would have added for browsers."""

    origins: Collection[str] = ()
    """As `CrossOrigin` has them; none: without it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = super().__call__
        if self.origins:
            answer = CrossOrigin(answer, self.origins)
        await SecurityHeaders(answer)(scope, receive, send)
