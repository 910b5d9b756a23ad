"""A picture of a data set: one row per label, one column per video."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from trainer.data.cache import CachedVideo

NUM_COLUMNS = 8
LABEL_HEIGHT = 14
"""Pixels, for Pillow's own font."""
SEED = 0


def draw_contact_sheet(videos: Sequence[CachedVideo], labels: Sequence[str], path: Path) -> None:
    """Writes a PNG with the middle frames of up to 8 videos per label, picked at random but always the same."""
    height, width = videos[0].clip.shape[1:3]
    generator = np.random.default_rng(SEED)
    sheet = Image.new("RGB", (NUM_COLUMNS * width, len(labels) * (height + LABEL_HEIGHT)))
    for row, label in enumerate(labels):
        top = row * (height + LABEL_HEIGHT)
        ImageDraw.Draw(sheet).text((2, top + 1), label, fill="white")
        chosen = [video for video in videos if video.label == row]
        for column, index in enumerate(generator.permutation(len(chosen))[:NUM_COLUMNS]):
            sheet.paste(Image.fromarray(_middle(chosen[index])), (column * width, top + LABEL_HEIGHT))
    sheet.save(path)


def _middle(video: CachedVideo) -> NDArray[np.uint8]:
    frame: NDArray[np.uint8] = video.clip[len(video.clip) // 2]
    return frame
