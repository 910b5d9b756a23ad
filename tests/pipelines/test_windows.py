import math
import time
from decimal import Decimal

import numpy as np
import pytest

from app.pipelines.windows import WindowMeans

STEP = Decimal("0.1")
STEP_SECONDS = float(STEP)


def run(
    steps: np.ndarray, window: float, hop: float, chunk: int, heard: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    means = WindowMeans(STEP_SECONDS, window, hop)
    counted = sum(means.push(steps[first : first + chunk]) for first in range(0, len(steps), chunk))
    return *means.finish(heard), counted


def expected_rows(window: str, hop: str, heard: str) -> list[tuple[float, float, list[int]]]:
    """(start, end, numbers of the steps that begin in it) of each window, in decimals, which miss nothing."""
    length, step_by, end = Decimal(window), Decimal(hop), Decimal(heard)
    begins = [number * STEP for number in range(math.ceil(end / STEP))]
    rows: list[tuple[float, float, list[int]]] = []
    start = Decimal(0)
    while start < end and (not rows or rows[-1][1] < float(end)):
        inside = [number for number, begin in enumerate(begins) if start <= begin < start + length]
        lies_in = [max(number for number, begin in enumerate(begins) if begin <= start)]
        rows.append((float(start), float(min(start + length, end)), inside or lies_in))
        start += step_by
    return rows


@pytest.fixture
def steps() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(53, 4)).astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 7, 53])
@pytest.mark.parametrize("heard", ["5.3", "5.285", "5.201"])  # the last step may not be whole
@pytest.mark.parametrize(
    ("window", "hop"),
    [
        ("1", "1"),
        ("1", "0.3"),
        ("0.5", "2"),
        ("9", "1"),
        ("5.3", "0.1"),
        ("0.25", "0.25"),  # every other bound lies between two steps
        ("0.15", "0.05"),
        ("0.05", "0.05"),  # in every other one no step begins
        ("0.01", "0.01"),
        ("0.02", "0.13"),
        ("0.5", "5.25"),  # the last one begins after the last step
    ],
)
def test_each_is_the_mean_of_the_steps_that_begin_in_it(
    steps: np.ndarray, window: str, hop: str, heard: str, chunk: int
) -> None:
    starts, ends, means, counted = run(steps, float(window), float(hop), chunk, float(heard))
    expected = expected_rows(window, hop, heard)
    assert starts == pytest.approx([start for start, _, _ in expected])
    assert ends == pytest.approx([end for _, end, _ in expected])
    for mean, (_, _, inside) in zip(means, expected, strict=True):
        assert mean == pytest.approx(steps[inside].mean(axis=0), abs=1e-6)  # float32
    assert (starts < ends).all()
    # Those that end with the last step are made at the end.
    assert 0 <= len(means) - counted <= 2 + STEP_SECONDS / float(hop)


@pytest.mark.parametrize(("window", "hop", "last_start"), [(1.0, 1.0, 5.0), (1.0, 0.5, 4.5), (5.3, 0.1, 0.0)])
def test_the_first_that_reaches_the_end_is_the_last(
    steps: np.ndarray, window: float, hop: float, last_start: float
) -> None:
    starts, ends, _, _ = run(steps, window, hop, 10, 5.3)
    assert starts[-1] == pytest.approx(last_start)
    assert ends[-1] == pytest.approx(5.3)
    assert (ends[:-1] < 5.3).all()


def test_hours_of_sums_of_floats_move_no_step_to_another_window() -> None:
    """Steps of 0.1 s, each with its number: ten in every second, an hour later too."""
    means = WindowMeans(STEP_SECONDS, 1.0, 0.1)
    means.push(np.arange(40_000, dtype=np.float32)[:, None])
    starts, _, found = means.finish(4000.0)
    assert len(starts) == 39_991
    np.testing.assert_array_equal(found[:, 0], np.arange(39_991, dtype=np.float32) + np.float32(4.5))


def test_a_mean_after_hours_is_that_of_its_steps_alone() -> None:
    """Sums of all that was heard have grown to 2,000,000 by then; six digits of an answer do not see it."""
    random = np.random.default_rng(0)
    means = WindowMeans(STEP_SECONDS, 0.5, 0.5)
    for _ in range(100):
        means.push(random.normal(20, 5, size=(1000, 2)).astype(np.float32))
    last = random.normal(0, 0.01, size=(1000, 2)).astype(np.float32)
    means.push(last)
    _, _, found = means.finish(10_100.0)
    expected = last.reshape(200, 5, 2).mean(axis=1, dtype=np.float64)
    np.testing.assert_allclose(found[-200:], expected, rtol=0, atol=1e-8)


def test_a_long_window_costs_no_more_than_a_short_one() -> None:
    """3,000 windows of one step, and 3,000 of 3,000 steps each, which share what those cost."""

    def cpu_seconds(window_seconds: float, num_steps: int) -> float:
        means = WindowMeans(STEP_SECONDS, window_seconds, STEP_SECONDS)
        steps = np.ones((num_steps, 200), np.float32)
        started = time.process_time()
        assert means.push(steps) >= 2999
        return time.process_time() - started

    short, long = (min(cpu_seconds(*case) for _ in range(3)) for case in ((0.1, 3000), (300.0, 6000)))
    assert long < 8 * short  # twice; with each mean taken anew 23 times


def test_what_is_kept_does_not_grow(steps: np.ndarray) -> None:
    means = WindowMeans(STEP_SECONDS, 1.0, 0.5)
    held = []
    for _ in range(100):
        means.push(steps)
        held.append(len(means.sums) - 1)
    assert max(held) <= 10
