from fractions import Fraction

import numpy as np
import pytest

from app.media.sampling import cut_part, frames_at, moments, spread

MILLISECOND = Fraction(1, 1000)


def ticks(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("times", "clip_length", "expected"),
    [
        (range(10), 4, [0, 3, 6, 9]),
        (range(10), 1, [0]),
        ([0], 3, [0, 0, 0]),
        ([0, 1], 3, [0, 0, 1]),  # 0.5 is a tie: the earlier
        ([0, 2, 4], 4, [0, 1, 1, 2]),  # 4/3 and 8/3 are both nearest to 2
        ([0, 1, 2, 100], 3, [0, 2, 3]),
        ([-50, -40, 7], 2, [0, 2]),
        ([0, 5, 5, 10], 3, [0, 1, 3]),  # two frames at one time: the earlier
        ([10**17, 10**17 + 3], 4, [0, 0, 1, 1]),  # where float64 cannot tell them apart
    ],
)
def test_spread(times: list[int], clip_length: int, expected: list[int]) -> None:
    times = list(times)
    assert spread(times[0], times[-1], clip_length, ticks(*times)).tolist() == expected


def test_spread_over_fewer_candidates() -> None:
    assert spread(0, 100, 5, ticks(20, 80)).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(10, [0, 1, 2, 3]), (5, [0, 2]), (20, [0, 0, 1, 1, 2, 2, 3, 3])],
)
def test_the_frame_on_display(rate: int, expected: list[int]) -> None:
    times = ticks(7000, 7100, 7200, 7300)
    found = frames_at(times, MILLISECOND, Fraction(0), Fraction(1, rate), len(expected))
    assert found.tolist() == expected


def test_times_rounded_to_milliseconds_are_on_time() -> None:
    times = ticks(*(round(k * 1000 / 30) for k in range(90)))
    assert frames_at(times, MILLISECOND, Fraction(0), Fraction(1, 30), 90).tolist() == list(range(90))


def test_coarse_ticks_are_not_rounded_up() -> None:
    """With a tick of 40 ms, 59 ms is still the second frame: the allowance is half a millisecond, not half a tick."""
    assert frames_at(ticks(0, 1, 2), Fraction(1, 25), Fraction(59, 1000), Fraction(0), 1).tolist() == [1]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (0, 9, 0.0, 1.0)),
        (0.35, None, (3, 9, 0.35, 1.0)),
        (None, 0.3, (0, 2, 0.0, 0.3)),  # the end is exclusive
        (0.3, 0.5, (3, 4, 0.3, 0.5)),
        (0.31, 0.39, (3, 3, 0.31, 0.39)),
        (0.95, 9.0, (9, 9, 0.95, 1.0)),
        (1.0, None, None),
        (0.5, 0.5, None),
        (0.5, 0.2, None),
    ],
)
def test_cut_part(start: float | None, end: float | None, expected: tuple[int, int, float, float] | None) -> None:
    times = ticks(*range(500, 1500, 100))
    assert cut_part(times, 1500, MILLISECOND, start, end) == expected


@pytest.mark.parametrize(
    ("start", "end", "rate", "count"),
    [(0, 10, 5, 50), (0, 10.2, 5, 51), (0, 0.01, 5, 1), (3, 4, 12.5, 13), (1, 1, 5, 1)],
)
def test_moments(start: float, end: float, rate: float, count: int) -> None:
    assert moments(start, end, rate) == count
