"""The page at /: a clip or a camera, and what it shows. Its files are in app/web; it loads nothing from elsewhere."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from app.errors import UnknownRoute

FOLDER = Path(__file__).parents[1] / "web"
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
async def page() -> FileResponse:
    return FileResponse(
        FOLDER / "index.html",
        headers={
            "Content-Security-Policy": POLICY,
            "Permissions-Policy": "camera=(self), microphone=()",
            "Cache-Control": "no-cache",
        },
    )


@router.get("/web/{name}")
async def file(name: str) -> FileResponse:
    if name not in FILES:
        raise UnknownRoute("Not Found")
    return FileResponse(FOLDER / name, headers={"Cache-Control": "no-cache"})
