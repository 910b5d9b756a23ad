"""What people saw in real clips: bench/camera_labels.csv, step by step. docs/camera.md says how it was labelled."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.scene_labels import CUT, EDITS, LABELS, MOTIONS, STATIC

LABELS_FILE = Path(__file__).with_name("camera_labels.csv")
EDGE_SECONDS = 0.25
"""People see where a motion begins and ends no more closely than this."""
CUT_EDGE_SECONDS = 0.25
"""Not scored around a doubtful cut."""
NAMED = {"motion": MOTIONS, "edits": EDITS, "all": LABELS}


@dataclass(frozen=True, slots=True)
class Row:
    """[start_seconds, end_seconds) of a clip. A cut is a moment: its start is its end."""

    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    doubtful: tuple[str, ...]
    """Labels that may or may not hold; they are not scored."""


def read_labels(path: Path = LABELS_FILE) -> dict[str, list[Row]]:
    """Rows by clip, in order of time. Raises ValueError for labels that do not exist and for gaps."""
    clips: dict[str, list[Row]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels, doubtful = (_expand(row[name]) for name in ("labels", "doubtful"))
            clips[row["clip"]].append(Row(float(row["start_seconds"]), float(row["end_seconds"]), labels, doubtful))
    for clip, rows in clips.items():
        end = 0.0
        for one in rows:
            if one.start_seconds != end or one.end_seconds < end:
                raise ValueError(f"{clip}: {one.start_seconds} s does not follow {end} s")
            end = one.end_seconds
    return dict(clips)


def truth(rows: list[Row], num_steps: int, rate: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which labels hold and which are scored, (T, K) each, at steps of 1/rate seconds."""
    times = np.arange(num_steps) / rate
    holds, scored = np.zeros((num_steps, len(LABELS)), bool), np.zeros((num_steps, len(LABELS)), bool)
    scored[:, CUT] = True
    for row in rows:
        if row.start_seconds == row.end_seconds:
            continue
        inside = (times >= row.start_seconds) & (times < row.end_seconds)
        for label in row.labels:
            holds[inside, LABELS.index(label)] = True
        certain = [label not in row.doubtful for label in LABELS]
        if not set(row.labels) & set(MOTIONS[:STATIC]):  # if a motion is doubtful, so is `static`
            certain[STATIC] = not set(row.doubtful) & set(MOTIONS)
        certain[CUT] = True
        scored[inside] = certain
    for row in rows:  # people may be off by this where they drew a line
        for edge in {row.start_seconds, row.end_seconds} - {0.0, rows[-1].end_seconds}:
            near = np.abs(times - edge) < EDGE_SECONDS
            before, after = holds[times < edge][-1:], holds[times >= edge][:1]
            changed = (before != after).any(axis=0)
            changed[CUT] = False
            scored[np.ix_(near, changed)] = False
    for row in rows:
        if row.start_seconds == row.end_seconds:
            if "cut" in row.labels:
                holds[min(int(np.ceil(row.start_seconds * rate - 1e-6)), num_steps - 1), CUT] = True
            else:
                scored[np.abs(times - row.start_seconds) < CUT_EDGE_SECONDS, CUT] = False
        elif "cut" in row.doubtful:
            scored[(times >= row.start_seconds) & (times < row.end_seconds), CUT] = False
    return holds, scored


def _expand(cell: str) -> tuple[str, ...]:
    """The labels of one cell; `motion`, `edits` and `all` are short for many."""
    found: list[str] = []
    for name in cell.split():
        if name not in NAMED and name not in LABELS:
            raise ValueError(f"{name} is not a label: {', '.join(LABELS)}")
        found.extend(NAMED.get(name, (name,)))
    return tuple(found)
