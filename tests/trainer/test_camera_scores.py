import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.camera_scores import Answers, count_edits, count_events, count_seconds, f1_by_label
from trainer.data.scene_labels import LABELS

RATE = 10.0


def flags(num_steps: int, **spans: tuple[int, int]) -> NDArray[np.bool_]:
    """(T, K): labels, `-` written `_`, that hold over spans of steps."""
    holds = np.zeros((num_steps, len(LABELS)), bool)
    for name, (start, end) in spans.items():
        holds[start:end, LABELS.index(name.replace("_", "-"))] = True
    return holds


def answers(said: NDArray[np.bool_], holds: NDArray[np.bool_]) -> Answers:
    return Answers("clip", RATE, said, holds, np.ones_like(holds))


@pytest.mark.parametrize(("said_at", "found"), [(8, 1), (10, 1), (12, 1), (7, 0), (13, 0)])
def test_a_cut_is_found_within_a_fifth_of_a_second(said_at: int, found: int) -> None:
    counts = count_events([answers(flags(20, cut=(said_at, said_at + 1)), flags(20, cut=(10, 11)))], "cut")

    assert (counts.num_true, counts.num_found, counts.num_said, counts.num_right) == (1, found, 1, found)


def test_one_answer_is_right_about_one_cut_only() -> None:
    holds = flags(20, cut=(9, 10)) | flags(20, cut=(11, 12))

    counts = count_events([answers(flags(20, cut=(10, 11)), holds)], "cut")

    assert counts.recall == 0.5
    assert counts.precision == 1.0


def test_a_dissolve_counts_once() -> None:
    said, holds = flags(40, dissolve=(8, 12)) | flags(40, dissolve=(30, 33)), flags(40, dissolve=(10, 22))

    counts = count_edits([answers(said, holds)])

    assert (counts.num_true, counts.num_found, counts.num_said, counts.num_right) == (1, 1, 2, 1)


def test_what_is_said_where_nothing_is_certain_is_not_held_against_anyone() -> None:
    said, holds = flags(20, freeze=(5, 9)), flags(20)
    scored = ~said

    counts = count_events([Answers("clip", RATE, said, holds, scored)], "freeze")

    assert counts.num_said == 0
    assert np.isnan(counts.precision)


@pytest.mark.parametrize(("said", "num_said"), [((5, 7), 0), ((5, 5), 0), ((12, 16), 1)])
def test_an_edit_too_short_to_be_told_counts_neither_way(said: tuple[int, int], num_said: int) -> None:
    counts = count_events([answers(flags(20, freeze=said), flags(20, freeze=(5, 8)))], "freeze")

    assert (counts.num_true, counts.num_found, counts.num_said, counts.num_right) == (0, 0, num_said, 0)


def test_seconds() -> None:
    holds = flags(30, pan_left=(0, 10), static=(10, 30))
    said = flags(30, pan_left=(0, 5), static=(5, 20), roll=(20, 25))
    said[25:, LABELS.index("static")] = True

    seconds = count_seconds([answers(said, holds)])

    assert (seconds.judged, seconds.moving, seconds.static) == (3.0, 1.0, 2.0)
    assert seconds.moving_found == 0.5
    assert seconds.false_motion == 0.5
    assert seconds.right == 0.5 + 1.0 + 0.5


def test_the_other_direction_is_not_found_motion() -> None:
    seconds = count_seconds([answers(flags(10, pan_right=(0, 10)), flags(10, pan_left=(0, 10)))])

    assert seconds.moving_found == 0.0
    assert seconds.right == 0.0


def test_f1_of_labels_that_occur() -> None:
    holds, said = flags(10, pan_left=(0, 4), static=(4, 10)), flags(10, pan_left=(2, 6), static=(6, 10))

    assert f1_by_label([answers(said, holds)]) == {"pan-left": 2 * 2 / (2 * 2 + 4), "static": 2 * 4 / (2 * 4 + 2)}
