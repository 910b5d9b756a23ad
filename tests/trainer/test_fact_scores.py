import math

import pytest

from trainer.data.sentences import Event, Facts, Move
from trainer.fact_scores import Count, FactScores

PAN, STILL, BOTH = Move(("pan-left",)), Move(("static",)), Move(("pan-left", "zoom-in"))
TRUE = Facts("dark", None, (PAN, Event("cut", 4.2), BOTH, Event("dissolve", 6.0), STILL, Event("fade-out")))


def scored(said: Facts | None, true: Facts = TRUE) -> FactScores:
    scores = FactScores()
    scores.add(said, true)
    return scores


def counts(count: Count) -> tuple[int, int, int]:
    return count.num_true, count.num_said, count.num_right


def test_what_is_true_is_right() -> None:
    scores = scored(TRUE)
    for count, number in ((scores.looks, 1), (scores.moves, 4), (scores.edits, 3), (scores.times, 2)):
        assert counts(count) == (number, number, number)
        assert (count.precision, count.recall) == (1.0, 1.0)
    assert counts(scores.by_move["pan-left"]) == (2, 2, 2)
    assert counts(scores.by_edit["fade-out"]) == (1, 1, 1)


def test_a_sentence_that_cannot_be_read_finds_nothing() -> None:
    scores = scored(None)
    assert scores.unreadable == 1
    assert counts(scores.moves) == (4, 0, 0)
    assert math.isnan(scores.moves.precision)
    assert scores.moves.recall == 0.0


def test_a_motion_counts_in_its_own_shot() -> None:
    """The pan of the first shot is told in the second one."""
    true = Facts(None, None, (PAN, Event("cut", 1.0), STILL))
    scores = scored(Facts(None, None, (STILL, Event("cut", 1.0), PAN)), true)
    assert counts(scores.moves) == (2, 2, 0)


@pytest.mark.parametrize(
    ("edit", "seconds", "right"),
    [("cut", 4.4, 1), ("cut", 4.5, 0), ("dissolve", 5.0, 0), ("dissolve", 4.0, 1)],
)
def test_times_are_right_within_what_can_be_told(edit: str, seconds: float, right: int) -> None:
    true = Facts(None, None, (Event(edit, 4.2 if edit == "cut" else 4.0),))  # type: ignore[arg-type]
    scores = scored(Facts(None, None, (Event(edit, seconds),)), true)  # type: ignore[arg-type]
    assert counts(scores.edits) == (1, 1, 1)
    assert counts(scores.times) == (1, 1, right)


def test_an_edit_far_off_is_another_one() -> None:
    scores = scored(Facts(None, None, (Event("cut", 1.0),)), Facts(None, None, (Event("cut", 5.0),)))
    assert counts(scores.edits) == (1, 1, 0)


def test_two_of_a_kind_are_paired_one_to_one() -> None:
    true = Facts(None, None, (Event("cut", 1.0), Event("cut", 2.0)))
    scores = scored(Facts(None, None, (Event("cut", 1.1), Event("cut", 1.2), Event("cut", 1.9))), true)
    assert counts(scores.edits) == (2, 3, 2)
    assert scores.edits.precision == pytest.approx(2 / 3)
