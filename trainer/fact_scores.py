"""How much of what sentences say of scenes is true: fact by fact, each against the parameters that made the scene."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from trainer.data.sentences import TIMED, Event, Facts, Move

K = TypeVar("K")

CUT_SECONDS = 0.2
"""How far off a time may be that is told by tenths."""
ROUND_SECONDS = 0.75
"""Of one that is told by whole seconds, which alone is half a second."""
PAIRED_SECONDS = 1.5
"""An event that is further off is another one."""


@dataclass(slots=True)
class Count:
    num_true: int = 0
    num_said: int = 0
    num_right: int = 0

    def add(self, num_true: int, num_said: int, num_right: int) -> None:
        self.num_true += num_true
        self.num_said += num_said
        self.num_right += num_right

    @property
    def precision(self) -> float:
        """NaN where nothing was said."""
        return self.num_right / self.num_said if self.num_said else float("nan")

    @property
    def recall(self) -> float:
        """NaN where there is nothing to say."""
        return self.num_right / self.num_true if self.num_true else float("nan")


@dataclass(slots=True)
class FactScores:
    """Over any number of sentences."""

    looks: Count = field(default_factory=Count)
    """Dark or bright, plain or busy."""
    moves: Count = field(default_factory=Count)
    """Labels of motion, each in its shot."""
    edits: Count = field(default_factory=Count)
    """Kinds of edits, those with a time within PAIRED_SECONDS of it."""
    times: Count = field(default_factory=Count)
    """Of those edits that are told with a time: also the time is right."""
    by_edit: dict[str, Count] = field(default_factory=dict)
    by_move: dict[str, Count] = field(default_factory=dict)
    unreadable: int = 0
    """Sentences that are none of the grammar's."""

    def add(self, said: Facts | None, true: Facts) -> None:
        """One more sentence; None is one that says nothing."""
        if said is None:
            self.unreadable += 1
            said = Facts(None, None, ())
        _tally(self.looks, Counter(_looks(said)), Counter(_looks(true)))
        ours, theirs = _moves(said), _moves(true)
        _tally(self.moves, ours, theirs)
        for label in {label for _, label in (*ours, *theirs)}:
            _tally(
                self.by_move.setdefault(label, Count()),
                Counter({key: count for key, count in ours.items() if key[1] == label}),
                Counter({key: count for key, count in theirs.items() if key[1] == label}),
            )
        self._add_edits(_events(said), _events(true))

    def _add_edits(self, said: Sequence[Event], true: Sequence[Event]) -> None:
        for edit in {event.edit for event in (*said, *true)}:
            ours, theirs = ([event for event in events if event.edit == edit] for events in (said, true))
            gaps = _gaps([event.seconds for event in ours], [event.seconds for event in theirs])
            for count in (self.edits, self.by_edit.setdefault(edit, Count())):
                count.add(len(theirs), len(ours), len(gaps))
            if edit in TIMED:
                allowed = CUT_SECONDS if edit == "cut" else ROUND_SECONDS
                self.times.add(len(theirs), len(ours), sum(gap <= allowed + 1e-6 for gap in gaps))


def _looks(facts: Facts) -> list[str]:
    return [word for word in (facts.light, facts.detail) if word]


def _events(facts: Facts) -> list[Event]:
    return [item for item in facts.story if isinstance(item, Event)]


def _moves(facts: Facts) -> Counter[tuple[int, str]]:
    """(number of joins before it, label) of each motion."""
    found: Counter[tuple[int, str]] = Counter()
    shot = 0
    for item in facts.story:
        if isinstance(item, Move):
            found.update((shot, label) for label in item.labels)
        elif item.edit in ("cut", "dissolve", "fade", "black"):
            shot += 1
    return found


def _tally(count: Count, said: Counter[K], true: Counter[K]) -> None:
    count.add(true.total(), said.total(), (said & true).total())


def _gaps(said: Sequence[float | None], true: Sequence[float | None]) -> list[float]:
    """How far apart those are that can be paired, each with one, in order of time."""
    gaps: list[float] = []
    left = list(true)
    for seconds in said:
        near = [(abs((other or 0.0) - (seconds or 0.0)), index) for index, other in enumerate(left)]
        if near and min(near)[0] <= PAIRED_SECONDS:
            gap, index = min(near)
            gaps.append(gap)
            del left[index]
    return gaps
