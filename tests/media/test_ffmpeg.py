import pytest

from app.errors import OutdatedLibrary
from app.media.ffmpeg import OLDEST_LIBAVCODEC, check_ffmpeg


def test_what_is_installed_may_be_used() -> None:
    check_ffmpeg()


@pytest.mark.parametrize("version", [OLDEST_LIBAVCODEC, (62, 28, 103), (63, 0, 0)])
def test_this_one_and_newer_ones_may_be_used(version: tuple[int, ...]) -> None:
    check_ffmpeg(version)


@pytest.mark.parametrize("version", [(62, 28, 101), (62, 11, 200), (61, 19, 105)])
def test_an_older_one_is_refused(version: tuple[int, ...]) -> None:
    with pytest.raises(OutdatedLibrary, match=r"it must be 62\.28\.102 \(FFmpeg 8\.1\.2\)"):
        check_ffmpeg(version)
