from pathlib import Path

import av

from bench.fast import LARGE, encode_all, encode_large
from tests.conftest import RATE, coloured_frames
from tests.media_maker import write_video


def size_and_length(path: Path) -> tuple[int, int, int]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return frames[0].width, frames[0].height, len(frames)


def test_files_of_one_name_are_encoded_each(tmp_path: Path) -> None:
    sources = []
    for seconds in (1, 2):
        (tmp_path / str(seconds)).mkdir()
        frames = coloured_frames("red", seconds=seconds)
        sources.append(write_video(tmp_path / str(seconds) / "clip.mp4", frames, RATE))

    encoded = encode_all(sources, tmp_path / "again", 0.5)
    large = encode_large(sources[::-1], tmp_path / "large", 0.5)

    assert [size_and_length(encoded[source]) for source in sources] == [(64, 48, RATE), (64, 48, 2 * RATE)]
    assert [size_and_length(path) for path in large] == [(*LARGE, RATE), (*LARGE, 2 * RATE)]
