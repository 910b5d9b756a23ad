import numpy as np
import pytest

from app.pipelines.settling import SETTLED_RANGE, SETTLED_SECONDS, Settling

RATE = 4.0
ENOUGH = round(SETTLED_SECONDS * RATE) + 1  # judgements, of which the last is two seconds after the first
FIRST, CLOSE, FAR, SECOND = [0.7, 0.3], [0.7 - 0.9 * SETTLED_RANGE, 0.3 + 0.9 * SETTLED_RANGE], [0.6, 0.4], [0.3, 0.7]
EVEN, ODD = [0.51, 0.49], [0.49, 0.51]


def settled_after(rows: list[list[float]], *, compete: bool = True, rate: float = RATE) -> int | None:
    """How many judgements it took."""
    settling = Settling(rate)
    for number, row in enumerate(rows, 1):
        settling.push(np.array([row]), compete=compete)
        if settling.is_settled:
            return number
    return None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([FIRST] * 20, ENOUGH),
        ([FIRST, CLOSE] * 10, ENOUGH),
        ([FIRST, FAR] * 20, None),
        ([FIRST] * (ENOUGH - 1) + [FAR] + [FIRST] * 20, 2 * ENOUGH),  # counts anew
        ([FIRST] * (ENOUGH - 1) + [SECOND] * 20, 2 * ENOUGH - 1),
        ([EVEN, ODD] * 20, None),  # hardly moves, but another label leads
    ],
)
def test_labels_that_compete(rows: list[list[float]], expected: int | None) -> None:
    assert settled_after(rows) == expected


@pytest.mark.parametrize(("rate", "expected"), [(0.2, 2), (0.5, 2), (1.2, 4), (12.0, 25)])
def test_the_last_judgement_is_two_seconds_after_the_first(rate: float, expected: int) -> None:
    assert settled_after([FIRST] * 30, rate=rate) == expected


def test_labels_that_do_not_compete_must_all_stand_still() -> None:
    assert settled_after([[0.99, 0.7, 0.01]] * 20, compete=False) == ENOUGH
    assert settled_after([[0.99, 0.7, 0.01], [0.99, 0.6, 0.01]] * 20, compete=False) is None
    assert settled_after([[0.99, 0.51, 0.01], [0.99, 0.49, 0.01]] * 20, compete=False) is None


def test_chunks_or_one_by_one() -> None:
    rows = np.array([FAR] * 3 + [FIRST] * ENOUGH)
    whole = Settling(RATE)
    whole.push(rows, compete=True)
    assert whole.is_settled
    before = Settling(RATE)
    before.push(rows[:-1], compete=True)
    assert not before.is_settled


def test_a_stretch_within_a_chunk_is_enough() -> None:
    settling = Settling(RATE)
    settling.push(np.array([FAR] * 3 + [FIRST] * ENOUGH + [SECOND] * 3), compete=True)
    assert settling.is_settled
