"""Pictures for the cards of models of sound. matplotlib takes a second to import: only where it is used."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DOTS_PER_INCH = 80
"""Enough to read, at some 20 kB a picture: they are kept with the models."""


def draw_confusion(confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str, path: Path) -> None:
    """Writes a PNG of a confusion matrix [truth][answer], shaded by the share of each truth."""
    from matplotlib.figure import Figure

    counts = np.array(confusion)
    figure = Figure(figsize=(2 + 0.5 * len(labels), 1.5 + 0.45 * len(labels)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0.0, vmax=1.0)
    for (truth, answer), count in np.ndenumerate(counts):
        axes.text(answer, truth, str(count) if count else "", ha="center", va="center", fontsize=8)
    # A label is no formula, whatever dollars there are in it.
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title(title)
    _save(figure, path)


def draw_spectrograms(spectrograms: Mapping[str, NDArray[np.float32]], hop_seconds: float, path: Path) -> None:
    """Writes a PNG of (T, M) spectrograms, one below the other on one scale of colours, by title."""
    from matplotlib.figure import Figure

    low = min(float(values.min()) for values in spectrograms.values())
    high = max(float(values.max()) for values in spectrograms.values())
    figure = Figure(figsize=(8, 2.2 * len(spectrograms)), layout="constrained")
    panels = figure.subplots(len(spectrograms), 1, squeeze=False)[:, 0]
    for panel, (title, values) in zip(panels, spectrograms.items(), strict=True):
        extent = (0.0, len(values) * hop_seconds, 0.0, float(values.shape[1]))
        panel.imshow(values.T, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap="magma")
        panel.set_title(title)
        panel.set_ylabel("mel or feature")
    panels[-1].set_xlabel("seconds")
    _save(figure, path)


def _save(figure: object, path: Path) -> None:
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)
