from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the extra `bench` is not installed")

from bench.camera import by_thresholds
from bench.camera_joins import CLIPS, draw_joined, judge, summary
from tests.conftest import coloured_frames
from tests.media_maker import write_video
from trainer.camera_scores import count_events
from trainer.data.listing import Video


def test_cuts_are_where_clips_meet(tmp_path: Path) -> None:
    lengths = {}
    for index in range(CLIPS):
        frames = coloured_frames("red", seconds=3.0)
        frames[...] = 20 + 60 * index  # all differ, none changes
        path = write_video(tmp_path / f"{index}.mp4", frames, 12)
        lengths[Video(path=path, label="none", split="test", group=str(index))] = len(frames)
    one = draw_joined(lengths, np.random.default_rng(0))
    pictures = one.render(32, 24)

    assert len(pictures) == sum(one.num_steps)
    change = np.abs(np.diff(pictures.astype(int), axis=0)).mean(axis=(1, 2, 3)) > 10
    (flash,) = one.flashes
    assert set((np.flatnonzero(change) + 1).tolist()) == {*one.cuts.tolist(), flash[0], flash[1]}

    answers = judge([one], by_thresholds())
    counts = count_events(answers, "cut")
    assert (counts.num_true, counts.num_found) == (CLIPS - 1, CLIPS - 1)
    assert f"{CLIPS - 1} of {CLIPS - 1}" in summary([one], {"differences": answers})
