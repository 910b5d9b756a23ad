"""The page at /: a clip or a camera, and what it shows. Its files are in app/web; it loads nothing from elsewhere."""

from pathlib import Path

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from app.errors import UnknownRoute

FOLDER = Path(__file__).parents[1] / "web"
STATIC = StaticFiles(directory=FOLDER)
PATH = "/"
FILES = ("page.css", "page.js", "camera.js", "clip.js", "timeline.js")
PATHS = frozenset({PATH, *(f"/web/{name}" for name in FILES)})
"""What people read; it says nothing that is secret."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src blob:; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""https://www.w3.org/TR/CSP3/: 'self' of connect-src is the WebSocket too."""

router = APIRouter(include_in_schema=False)


@router.get(PATH)
async def page(request: Request) -> Response:
    response = await _file(request, "index.html")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Permissions-Policy"] = "camera=(self), microphone=()"
    return response


@router.get("/web/{name}")
async def file(request: Request, name: str) -> Response:
    if name not in FILES:
        raise UnknownRoute
    return await _file(request, name)


async def _file(request: Request, name: str) -> Response:
    """The file, or 304 to whom has it. Both must say all: browsers keep the headers of the 304.

    All of it, whatever part is asked for (RFC 9110, section 14.2): Starlette refuses parts that are none in plain text.
    """
    path = FOLDER / name
    request.scope["headers"] = [(header, value) for header, value in request.scope["headers"] if header != b"range"]
    response = STATIC.file_response(path, await to_thread.run_sync(path.stat), request.scope)
    response.headers.update({"Cache-Control": "no-cache", "Accept-Ranges": "none"})
    return response
