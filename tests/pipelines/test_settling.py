import numpy as np
import pytest

from app.pipelines.settling import SETTLED_SCORE, SETTLED_SECONDS, Settling

RATE = 4.0
ENOUGH = round(SETTLED_SECONDS * RATE)
SURE = [SETTLED_SCORE, 1 - SETTLED_SCORE]
UNSURE = [0.9, 0.1]


def settled_after(rows: list[list[float]], *, compete: bool = True) -> int | None:
    """How many judgements it took."""
    settling = Settling(RATE)
    for number, row in enumerate(rows, 1):
        settling.push(np.array([row]), compete=compete)
        if settling.is_settled:
            return number
    return None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([SURE] * 20, ENOUGH),
        ([UNSURE] * 3 + [SURE] * 20, 3 + ENOUGH),
        ([SURE] * (ENOUGH - 1) + [UNSURE] + [SURE] * 20, 2 * ENOUGH),  # a break: it counts anew
        ([SURE] * (ENOUGH - 1) + [SURE[::-1]] * 20, 2 * ENOUGH - 1),  # another label leads
        ([UNSURE] * 40, None),
    ],
)
def test_labels_that_compete(rows: list[list[float]], expected: int | None) -> None:
    assert settled_after(rows) == expected


def test_labels_that_do_not_compete_must_all_be_sure() -> None:
    assert settled_after([[0.99, 0.98, 0.01]] * 20, compete=False) == ENOUGH
    assert settled_after([[0.99, 0.5, 0.01]] * 20, compete=False) is None
    assert settled_after([[0.99, 0.98, 0.01]] * 5 + [[0.99, 0.02, 0.01]] * 20, compete=False) == 5 + ENOUGH


def test_chunks_or_one_by_one() -> None:
    rows = np.array([UNSURE] * 3 + [SURE] * ENOUGH)
    whole = Settling(RATE)
    whole.push(rows, compete=True)
    assert whole.is_settled
    before = Settling(RATE)
    before.push(rows[:-1], compete=True)
    assert not before.is_settled
