import numpy as np
import pytest

from trainer.data.scene_labels import LABELS, MOTIONS, STATIC, describe_motion, is_black

RATE = 12.0
SECONDS = np.arange(24) / RATE


def travel(pan: float = 0.0, tilt: float = 0.0, zoom: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Two seconds at constant speeds."""
    return SECONDS[:, None] * np.array([pan, tilt, zoom, roll])


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({}, {"static"}),
        ({"pan": 0.1}, {"pan-right"}),
        ({"pan": -0.1}, {"pan-left"}),
        ({"tilt": 0.1}, {"tilt-down"}),
        ({"tilt": -0.1}, {"tilt-up"}),
        ({"zoom": 0.2}, {"zoom-in"}),
        ({"zoom": -0.2}, {"zoom-out"}),
        ({"roll": -0.2}, {"roll"}),
        ({"pan": 0.1, "zoom": -0.2}, {"pan-right", "zoom-out"}),
    ],
)
def test_speeds_are_named_and_certain(speeds: dict[str, float], expected: set[str]) -> None:
    truth = describe_motion(travel(**speeds), RATE)

    for step in range(len(SECONDS)):
        assert {MOTIONS[label] for label in np.flatnonzero(truth.holds[step])} == expected
    assert truth.scored.all()


def test_what_is_barely_moving_is_not_scored() -> None:
    truth = describe_motion(travel(pan=0.03), RATE)

    uncertain = [MOTIONS[label] for label in np.flatnonzero(~truth.scored.any(axis=0))]
    assert uncertain == ["pan-right", "static"]  # certainly not to the left, though


def test_shaking_is_no_pan_and_a_pan_is_no_shaking() -> None:
    shaken = travel()
    shaken[:, 1] = np.where(np.arange(len(SECONDS)) % 2, 0.01, -0.01)  # 0.24 heights a second, there and back

    holds = describe_motion(shaken, RATE).holds[3:-3]  # half a second around each step, there and back alike

    assert (holds == (np.arange(len(MOTIONS)) == MOTIONS.index("shake"))).all()
    assert not describe_motion(travel(pan=0.6), RATE).holds[:, MOTIONS.index("shake")].any()


def test_one_step_says_nothing() -> None:
    truth = describe_motion(travel()[:1], RATE)

    assert truth.holds.shape == (1, len(MOTIONS))
    assert not truth.scored.any()


def test_labels_of_motion_come_first() -> None:
    assert LABELS[: len(MOTIONS)] == MOTIONS
    assert LABELS[STATIC] == "static"


def test_a_small_light_is_not_black() -> None:
    pictures = np.full((3, 96, 128, 3), 4, np.uint8)
    pictures[1, 40:50, 60:70] = 200  # 0.8 % of the picture
    pictures[2] = 30

    assert is_black(pictures).tolist() == [True, False, False]
