import numpy as np
from numpy.typing import NDArray

from trainer.data.footage import find_footage
from trainer.data.textures import draw_texture

NUM_FRAMES = 30


def filmed(pixels_a_frame: float) -> NDArray[np.uint8]:
    """(N, 72, 96, 3): something bright crosses a picture, and the camera pans."""
    generator = np.random.default_rng(0)
    wide = np.minimum(draw_texture(192, 72, generator), 200)
    frames = []
    for step in range(NUM_FRAMES):
        frame = wide[:, round(step * pixels_a_frame) :][:, :96].copy()
        frame[30:42, 2 * step : 2 * step + 12] = 255
        frames.append(frame)
    noise = generator.normal(0, 2, (NUM_FRAMES, 72, 96, 3))
    return np.clip(np.stack(frames) + noise, 0, 255).astype(np.uint8)


def test_what_moves_before_a_still_camera_is_footage() -> None:
    frames = filmed(0.0)

    footage = find_footage(frames, 20)

    assert footage is not None
    assert (footage == frames[5:25]).all()  # the middle


def test_a_camera_that_moves_makes_none() -> None:
    assert find_footage(filmed(1.0), NUM_FRAMES) is None
    assert find_footage(filmed(0.25), NUM_FRAMES) is None  # 3 pixels a second: 3 % of the width


def test_two_shots_make_none() -> None:
    frames = filmed(0.0)
    frames[15:] = 255 - frames[15:]

    assert find_footage(frames, NUM_FRAMES) is None
    assert find_footage(frames[:15], NUM_FRAMES) is not None


def test_a_moment_makes_none() -> None:
    assert find_footage(filmed(0.0)[:11], NUM_FRAMES) is None
    assert find_footage(filmed(0.0)[:0], NUM_FRAMES) is None
