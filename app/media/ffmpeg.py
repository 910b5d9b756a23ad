"""Which FFmpeg is inside PyAV."""

import av

from app.errors import OutdatedLibrary

OLDEST_LIBAVCODEC = (62, 28, 102)
"""Of FFmpeg 8.1.2, which closed a hole in reach of a crafted AVI, MKV or MOV file (CVE-2026-8461)."""


def check_ffmpeg(libavcodec: tuple[int, ...] = av.library_versions["libavcodec"]) -> None:
    """Raises OutdatedLibrary for one that may not be given files of unknown origin."""
    if libavcodec < OLDEST_LIBAVCODEC:
        found, oldest = (".".join(map(str, version)) for version in (libavcodec, OLDEST_LIBAVCODEC))
        raise OutdatedLibrary(f"PyAV comes with libavcodec {found}; it must be {oldest} (FFmpeg 8.1.2) or newer")
