"""How right answers about camera work and edits are, step by step and event by event."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.scene_labels import EDITS, LABELS, MOTIONS, SHORTEST_SECONDS, STATIC, stretches

TOLERANCE_SECONDS = 0.2
SLACK = 1e-9  # of sums of seconds


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said of one video, and what is true of it, at steps of 1/rate seconds."""

    name: str
    rate: float
    said: NDArray[np.bool_]
    """(T, K)"""
    holds: NDArray[np.bool_]
    """(T, K)"""
    scored: NDArray[np.bool_]
    """(T, K)"""


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Edits found and missed. A cut counts once, a dissolve, freeze or black once from its beginning to its end."""

    num_true: int = 0
    num_found: int = 0
    """Of the true ones."""
    num_said: int = 0
    num_right: int = 0
    """Of those said."""

    def __add__(self, other: "EventCounts") -> "EventCounts":
        return EventCounts(
            self.num_true + other.num_true,
            self.num_found + other.num_found,
            self.num_said + other.num_said,
            self.num_right + other.num_right,
        )

    @property
    def precision(self) -> float:
        """NaN where nothing was said."""
        return share(self.num_right, self.num_said)

    @property
    def recall(self) -> float:
        """NaN where there is nothing to find."""
        return share(self.num_found, self.num_true)


@dataclass(frozen=True, slots=True)
class Seconds:
    """How motion was judged, in seconds."""

    judged: float
    """Where what is true is certain: static or moving, and how."""
    right: float
    """Of them: all that is certain was said, and nothing that is certainly wrong."""
    moving: float
    moving_found: float
    """Of those moving: some motion that holds was said."""
    static: float
    false_motion: float
    """Of those static: some motion was said."""


def share(part: float, whole: float) -> float:
    """NaN of nothing."""
    return part / whole if whole else float("nan")


def f1_by_label(answers: Sequence[Answers], labels: Sequence[str] = LABELS) -> dict[str, float]:
    """F1 over all scored steps, for the labels that hold at any."""
    said, holds, scored = (
        np.concatenate([getattr(one, part) for one in answers]) for part in ("said", "holds", "scored")
    )
    found: dict[str, float] = {}
    for label in labels:
        column = LABELS.index(label)
        valid = scored[:, column]
        right = int((said[:, column] & holds[:, column] & valid).sum())
        wrong = int(((said[:, column] != holds[:, column]) & valid).sum())
        if (holds[:, column] & valid).any():
            found[label] = 2 * right / (2 * right + wrong)
    return found


def count_events(answers: Iterable[Answers], label: str) -> EventCounts:
    """How many of one kind of edit are said and true within TOLERANCE_SECONDS of each other.

    True ones of which less is certain than timelines tell of (SHORTEST_SECONDS) count neither way, said or not.
    """
    column, total = LABELS.index(label), EventCounts()
    for one in answers:
        scored, least = one.scored[:, column], SHORTEST_SECONDS[label] * one.rate - SLACK
        true = stretches(one.holds[:, column] & scored)
        said = [event for event in stretches(one.said[:, column]) if scored[slice(*event)].any()]
        if label == "cut":  # one step each, however long it was said
            said = [(start, start + 1) for start, _ in said]
        found = _matched(said, true, TOLERANCE_SECONDS * one.rate)
        short = [end - start < least for start, end in true]
        right = sum(not short[index] for index in found)
        total += EventCounts(len(true) - sum(short), right, len(said) - (len(found) - right), right)
    return total


def count_edits(answers: Sequence[Answers]) -> EventCounts:
    """All kinds of edits together."""
    return sum((count_events(answers, label) for label in EDITS), EventCounts())


def count_seconds(answers: Iterable[Answers]) -> Seconds:
    """How motion was judged, over all videos."""
    totals = np.zeros(6)
    for one in answers:
        holds, scored, said = (part[:, : len(MOTIONS)] for part in (one.holds, one.scored, one.said))
        moves = (holds & scored)[:, :STATIC].any(axis=1)
        static = (holds & scored)[:, STATIC]
        judged = moves | static
        right = ((said == holds) | ~scored).all(axis=1)
        found = (said & holds & scored)[:, :STATIC].any(axis=1)
        wrong = (said & ~holds & scored)[:, :STATIC].any(axis=1)
        steps = (judged, judged & right, moves, moves & found, static, static & wrong)
        totals += np.array([part.sum() for part in steps]) / one.rate
    return Seconds(*totals.tolist())


def _matched(said: Sequence[tuple[int, int]], true: Sequence[tuple[int, int]], tolerance: float) -> list[int]:
    """Which of `true` can be paired, each with one that it touches or is within the tolerance of; in order of time."""
    pairs: list[int] = []
    first = 0
    for index, (start, end) in enumerate(true):
        while first < len(said) and said[first][1] - 1 + tolerance + SLACK < start:
            first += 1
        if first < len(said) and said[first][0] <= end - 1 + tolerance + SLACK:
            pairs.append(index)
            first += 1
    return pairs
