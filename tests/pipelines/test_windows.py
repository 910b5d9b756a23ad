import numpy as np
import pytest

from app.pipelines.windows import WindowMeans

STEP_SECONDS = 0.1


def run(steps: np.ndarray, window: float, hop: float, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    means = WindowMeans(STEP_SECONDS, window, hop)
    counted = sum(means.push(steps[first : first + chunk]) for first in range(0, len(steps), chunk))
    return *means.finish(), counted


@pytest.fixture
def steps() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(53, 4)).astype(np.float32)


@pytest.mark.parametrize("chunk", [1, 7, 53])
@pytest.mark.parametrize(("window", "hop"), [(1.0, 1.0), (1.0, 0.3), (0.5, 2.0), (9.0, 1.0), (0.01, 0.01), (5.3, 0.1)])
def test_each_is_the_mean_of_the_steps_that_begin_in_it(
    steps: np.ndarray, window: float, hop: float, chunk: int
) -> None:
    starts, ends, means, counted = run(steps, window, hop, chunk)
    assert len(starts) == len(ends) == len(means)
    assert counted in (len(means), len(means) - 1)  # the last one may close at the end
    assert starts == pytest.approx(np.arange(len(starts)) * hop)
    assert (ends <= 5.3 + 1e-9).all()
    for start, mean in zip(starts, means, strict=True):
        first = round(start / STEP_SECONDS)
        last = max(first + 1, round((start + window) / STEP_SECONDS))
        assert mean == pytest.approx(steps[first:last].mean(axis=0), abs=1e-6)  # float32


@pytest.mark.parametrize(("window", "hop", "last_start"), [(1.0, 1.0, 5.0), (1.0, 0.5, 4.5), (5.3, 0.1, 0.0)])
def test_the_first_that_reaches_the_end_is_the_last(
    steps: np.ndarray, window: float, hop: float, last_start: float
) -> None:
    starts, ends, _, _ = run(steps, window, hop, 10)
    assert starts[-1] == pytest.approx(last_start)
    assert ends[-1] == pytest.approx(5.3)
    assert (ends[:-1] < 5.3).all()


def test_what_is_kept_does_not_grow(steps: np.ndarray) -> None:
    means = WindowMeans(STEP_SECONDS, 1.0, 0.5)
    held = []
    for _ in range(100):
        means.push(steps)
        held.append(len(means.held))
    assert max(held) <= 10
