from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from trainer.data.generators import DIRECTIONS, MOTION_LABELS, MotionStyle, draw_motion, write_motion

SMALL = MotionStyle(width=64, height=48, min_seconds=0.8, max_seconds=1.2)


LEVELS = 2.0
"""Of 255, mean over a video. x264 makes another file of the same frames once in some hundred times, threads or none;
videos of different seeds are 20 and more apart."""


def contents(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Decoded frames (N, H, W, 3) by path."""
    found = {}
    for path in sorted(folder.rglob("*.mp4")):
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        found[str(path.relative_to(folder))] = np.stack(frames)
    return found


def is_alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    return one.shape == other.shape and bool(np.abs(one.astype(int) - other).mean() < LEVELS)


def test_same_seed_same_videos_and_more_only_add(tmp_path: Path) -> None:
    for name, count, seed in (("one", 1, 3), ("two", 2, 3), ("other", 1, 4)):
        assert len(list(write_motion(tmp_path / name, count, seed, SMALL))) == count * len(MOTION_LABELS)

    one, two, other = (contents(tmp_path / name) for name in ("one", "two", "other"))
    assert one.keys() < two.keys()
    assert all(is_alike(frames, two[path]) for path, frames in one.items())
    assert not any(is_alike(frames, others) for frames in one.values() for others in other.values())
    assert {path.split("/")[0] for path in one} == set(MOTION_LABELS)


def test_files_are_h264_of_the_drawn_pixels(tmp_path: Path) -> None:
    path = next(write_motion(tmp_path, 1, 0, SMALL))

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate is not None
        assert 0.8 <= len(frames) / float(stream.average_rate) <= 1.25  # rounded to whole frames

    generator = np.random.default_rng((0, 0, 0))
    frame_rate = int(generator.choice((24, 25, 30)))
    drawn = list(draw_motion(MOTION_LABELS[0], frame_rate, SMALL, generator))
    assert len(frames) == len(drawn)
    # H.264 at this quality and halved chroma are some grey levels off; another picture is off by tens.
    assert np.abs(np.stack(frames).astype(float) - np.stack(drawn)).mean() < 12


def shift_of(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> tuple[int, int]:
    """The shift (rows, columns) that most of the changed pixels agree on."""
    changed = (before != after).any(axis=2)
    shifts = [(rows, columns) for rows in range(-4, 5) for columns in range(-4, 5)]
    errors = [np.abs(np.roll(before, shift, (0, 1)).astype(int) - after)[changed].sum() for shift in shifts]
    return shifts[int(np.argmin(errors))]


def test_labels_say_where_the_shape_moves() -> None:
    style = MotionStyle(width=96, height=96, min_speed=0.4, max_speed=0.6)
    for label, (rows, columns) in DIRECTIONS.items():
        frames = list(draw_motion(label, 24, style, np.random.default_rng(1)))
        first, later = frames[0], frames[1]
        if label == "still":
            assert all((frame == first).all() for frame in frames)
        else:
            moved = shift_of(first, later)
            assert np.sign(moved).tolist() == [rows, columns], label


def test_one_frame_tells_nothing() -> None:
    """With the same random numbers, all labels begin with the same picture: the label is in the motion alone."""
    firsts = [next(draw_motion(label, 24, SMALL, np.random.default_rng(5))) for label in MOTION_LABELS]

    assert all((frame == firsts[0]).all() for frame in firsts)
