"""Draws stills, for where there are no videos to take them from."""

import numpy as np
from numpy.typing import NDArray


def draw_texture(width: int, height: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """(H, W, 3): clouds of random fineness over a gradient, with some plain shapes that have edges."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    fall = generator.uniform(0.8, 2.0)  # photographs have 1 on average
    clouds = np.empty((height, width, 3))
    for channel in range(3):
        noise = np.fft.rfft2(generator.standard_normal((height, width)))
        clouds[..., channel] = np.fft.irfft2(noise / frequency**fall, s=(height, width))
    clouds = clouds @ (np.eye(3) * generator.uniform(0.2, 1.0) + 0.4)  # so that the colours go together
    picture = generator.uniform(40, 200, 3) + clouds / clouds.std() * generator.uniform(15, 50)
    y, x = np.mgrid[:height, :width]
    for _ in range(int(generator.integers(0, 6))):
        angle, across = generator.uniform(0, np.pi), generator.uniform(0.03, 0.3) * width
        u = (x - generator.uniform(0, width)) * np.cos(angle) + (y - generator.uniform(0, height)) * np.sin(angle)
        v = (y - generator.uniform(0, height)) * np.cos(angle) - (x - generator.uniform(0, width)) * np.sin(angle)
        inside = (np.abs(u) < across) & (np.abs(v) < across * generator.uniform(0.3, 2.0))
        picture[inside] = picture[inside] * 0.3 + generator.uniform(0, 255, 3) * 0.7
    levels: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return levels
