import numpy as np
import pytest

from app.pipelines.surprise import MERGED_SECONDS, SMALLEST_RISE, find_peaks

RATE = 10.0


def peaks(scores: np.ndarray) -> list[tuple[float, float]]:
    found = find_peaks(np.arange(1, len(scores) + 1) / RATE, scores, RATE)
    return [(round(peak.start_seconds, 6), round(peak.end_seconds, 6)) for peak in found]


@pytest.fixture
def ordinary() -> np.ndarray:
    """Ten seconds of a video in which nothing special happens."""
    return np.abs(np.random.default_rng(0).normal(0.05, 0.004, 100))


def test_nothing_special_has_no_peaks(ordinary: np.ndarray) -> None:
    assert peaks(ordinary) == []
    assert peaks(np.zeros(50)) == []
    assert peaks(np.empty(0)) == []


def test_a_peak_is_found_where_it_is(ordinary: np.ndarray) -> None:
    ordinary[40:43] = 0.3
    assert peaks(ordinary) == [(4.1, 4.4)]


def test_hysteresis_takes_the_slopes_in(ordinary: np.ndarray) -> None:
    slope = 0.05 + 0.7 * max(8 * 0.004, SMALLEST_RISE)  # above half of the rise, below the rise
    ordinary[39], ordinary[40], ordinary[41] = slope, 0.3, slope
    assert peaks(ordinary) == [(4.0, 4.3)]
    ordinary[40] = slope
    assert peaks(ordinary) == []  # without a peak a slope is nothing


def test_what_enters_and_leaves_at_once_is_one(ordinary: np.ndarray) -> None:
    steps_between = round(MERGED_SECONDS * RATE) - 2
    ordinary[40] = ordinary[41 + steps_between] = 0.3
    assert len(peaks(ordinary)) == 1
    ordinary[80] = 0.4
    assert len(peaks(ordinary)) == 2


def test_the_largest_score_is_told(ordinary: np.ndarray) -> None:
    ordinary[40], ordinary[42] = 0.3, 0.5
    (peak,) = find_peaks(np.arange(100) / RATE, ordinary, RATE)
    assert peak.score == 0.5


def test_noise_of_a_still_picture_is_no_surprise() -> None:
    """Nearly all scores are the same, so that the deviation is as good as nothing."""
    still = np.full(100, 0.001)
    still[50] = 0.001 + 0.9 * SMALLEST_RISE
    assert peaks(still) == []
    still[50] = 0.001 + 1.1 * SMALLEST_RISE
    assert peaks(still) == [(5.1, 5.2)]


def test_many_peaks_do_not_hide_each_other(ordinary: np.ndarray) -> None:
    """A third of the video: a mean and standard deviation would be of the peaks by then."""
    ordinary[::3] = 0.5
    assert len(peaks(ordinary)) == 1  # merged, being closer than MERGED_SECONDS
    assert peaks(ordinary)[0] == (0.1, 10.1)
