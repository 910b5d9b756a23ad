from pathlib import Path

import av
import pytest

from bench.early_exit import looped
from tests.conftest import RATE, coloured_frames
from tests.media_maker import write_video
from trainer.data.listing import Video


def test_files_of_one_name_are_looped_each(tmp_path: Path) -> None:
    videos = []
    for width in (32, 64):
        (tmp_path / str(width)).mkdir()
        path = write_video(tmp_path / str(width) / "clip.mp4", coloured_frames("red", seconds=1, width=width), RATE)
        videos.append(Video(path, "red", str(width)))

    found = looped(videos, 3, tmp_path)

    for video, width in zip(found, (32, 64), strict=True):
        with av.open(str(video.path)) as container:
            frames = list(container.decode(video=0))
        assert frames[0].width == width
        assert len(frames) == pytest.approx(3 * RATE, abs=RATE)  # whole rounds of the video
