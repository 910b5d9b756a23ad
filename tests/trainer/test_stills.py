import numpy as np

from trainer.data.stills import without_bars
from trainer.data.textures import draw_texture


def test_bars_are_cut_off_and_pictures_are_not() -> None:
    picture = np.maximum(draw_texture(64, 48, np.random.default_rng(0)), 40)
    barred = picture.copy()
    barred[:6] = barred[42:] = 10
    barred[3, 5:9] = 250  # a logo in the bar

    whole, trimmed = without_bars([picture, barred])

    assert (whole == picture).all()
    assert trimmed.shape == picture.shape
    assert trimmed.min() > 24
    # What was in the middle is in the middle: between rows 6 and 42, stretched to 48.
    assert np.abs(trimmed[24].astype(int) - picture[24]).mean() < np.abs(trimmed[24].astype(int) - picture[10]).mean()


def test_a_dark_picture_is_no_bar() -> None:
    dark = np.full((48, 64, 3), 10, np.uint8)
    dark[20:28, 20:28] = 200

    (kept,) = without_bars([dark])

    assert (kept == dark).all()
