import numpy as np
import pytest

from app.pipelines.late_answers import LateAnswers


@pytest.mark.parametrize("sizes", [[6], [1] * 6, [1, 5], [4, 2], [0, 3, 3]])
@pytest.mark.parametrize("delay", [0, 1, 2, 6, 9])
def test_every_moment_gets_its_answer_however_the_steps_come(sizes: list[int], delay: int) -> None:
    late, start, pairs = LateAnswers(delay), 0, []
    for size in sizes:
        steps = np.arange(start, start + size)
        pairs += zip(*late.pair(steps / 4, steps - delay), strict=True)  # an answer names its moment
        start += size
    assert len(late.waiting) == min(delay, 6)
    pairs += zip(*late.rest(np.arange(6, 6 + delay) - delay), strict=True)

    assert pairs == [(step / 4, step) for step in range(6)]


def test_it_goes_on_from_what_was_waiting() -> None:
    before = LateAnswers(2)
    before.pair(np.array([0.0, 0.25, 0.5]), np.array([-2, -1, 0]))

    moments, answers = LateAnswers(2, before.waiting).pair(np.array([0.75]), np.array([1]))

    assert (moments.tolist(), answers.tolist()) == ([0.25], [1])
