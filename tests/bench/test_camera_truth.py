from pathlib import Path

import numpy as np
import pytest

from bench.camera_truth import read_labels, truth
from trainer.data.scene_labels import CUT, LABELS, STATIC

HEADER = "clip,start_seconds,end_seconds,labels,doubtful\n"
RATE = 12.0


def listing(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_the_labels_of_the_clips_are_complete() -> None:
    clips = read_labels()

    assert len(clips) >= 40
    held = {label for rows in clips.values() for row in rows for label in row.labels}
    assert {"pan-left", "pan-right", "tilt-up", "tilt-down", "static", "cut", "dissolve", "freeze", "black"} <= held


def test_steps_take_the_labels_of_their_row(tmp_path: Path) -> None:
    clips = read_labels(listing(tmp_path, "a.mp4,0,1,static,", "a.mp4,1,1,cut,", "a.mp4,1,3,pan-left,tilt-up"))

    holds, scored = truth(clips["a.mp4"], 36, RATE)

    assert np.flatnonzero(holds[:, CUT]).tolist() == [12]
    assert scored[:, CUT].all()
    assert holds[:12, STATIC].all()
    assert holds[12:, LABELS.index("pan-left")].all()
    assert scored[20, LABELS.index("pan-left")]
    assert not scored[20, LABELS.index("tilt-up")]
    assert scored[20, STATIC]  # whatever else moves, the camera does
    assert not holds[20, STATIC]
    assert not scored[10:15, LABELS.index("pan-left")].any()  # no one draws lines to the frame
    assert scored[5, :].all()


def test_where_motion_is_in_doubt_so_is_stillness(tmp_path: Path) -> None:
    clips = read_labels(listing(tmp_path, "a.mp4,0,2,static,shake"))

    holds, scored = truth(clips["a.mp4"], 24, RATE)

    assert holds[:, STATIC].all()
    assert not scored[:, STATIC].any()
    assert scored[:, LABELS.index("roll")].all()


def test_doubt_about_a_cut_is_not_scored(tmp_path: Path) -> None:
    clips = read_labels(listing(tmp_path, "a.mp4,0,1,static,", "a.mp4,1,1,,cut", "a.mp4,1,2,,all"))

    holds, scored = truth(clips["a.mp4"], 24, RATE)

    assert not holds[:, CUT].any()
    assert not scored[10:, CUT].any()
    assert scored[:9, CUT].all()
    assert not scored[13:].any()


@pytest.mark.parametrize("row", ["a.mp4,1,2,static,", "a.mp4,0,1,pan,"])
def test_gaps_and_unknown_labels_are_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(ValueError, match=r"does not follow|is not a label"):
        read_labels(listing(tmp_path, row))
