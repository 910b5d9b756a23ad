"""What is said about a scene: facts to words, and words back to facts, so that every sentence can be checked.

    a dark , busy picture ; the camera pans left , then holds still ; a cut at 4.2 s ; it ends in a fade to black .

Times are seconds from the first frame. The time of a cut is given to a tenth; longer edits are around a whole second.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from trainer.data.scene_labels import MOTIONS, STATIC

Edit = Literal["cut", "dissolve", "fade", "black", "freeze", "fade-in", "fade-out"]
Light = Literal["dark", "bright"]
Detail = Literal["plain", "busy"]

MOVES: dict[str, str] = {
    "pan-left": "pans left",
    "pan-right": "pans right",
    "tilt-up": "tilts up",
    "tilt-down": "tilts down",
    "zoom-in": "zooms in",
    "zoom-out": "zooms out",
    "roll": "rolls",
    "shake": "shakes",
    "static": "holds still",
}
"""By label of trainer.data.scene_labels."""
TIMED: dict[Edit, str] = {
    "cut": "a cut at",
    "dissolve": "a dissolve around",
    "fade": "a fade through black around",
    "black": "a black screen around",
    "freeze": "the picture freezes around",
}
UNTIMED: dict[Edit, str] = {"fade-in": "it opens with a fade from black", "fade-out": "it ends in a fade to black"}
CAMERA, THEN, AND = "the camera", ", then", "and"


@dataclass(frozen=True, slots=True)
class Move:
    """What the camera does for a while: the labels that hold, in the order of MOTIONS."""

    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """An edit, and its time; None where the sentence does not say."""

    edit: Edit
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a sentence says."""

    light: Light | None
    detail: Detail | None
    story: tuple[Move | Event, ...]
    """In order of time."""


def time_word(seconds: float, edit: Edit) -> str:
    """4.18 s -> 4.2 for a cut, 4 for a dissolve."""
    return f"{seconds:.1f}" if edit == "cut" else str(int(seconds + 0.5))


def vocabulary(max_seconds: int) -> tuple[str, ...]:
    """Every word of every sentence about at most `max_seconds`: first the times, by tenths and by whole seconds."""
    phrases = [
        *MOVES.values(),
        *TIMED.values(),
        *UNTIMED.values(),
        CAMERA,
        THEN,
        AND,
        "a dark bright plain busy picture",
    ]
    words = dict.fromkeys(word for phrase in [*phrases, "s , ; ."] for word in phrase.split())
    return (*tenths(max_seconds), *wholes(max_seconds), *words)


def tenths(max_seconds: int) -> list[str]:
    """0.0, 0.1, ... up to `max_seconds`."""
    return [f"{tenth / 10:.1f}" for tenth in range(10 * max_seconds + 1)]


def wholes(max_seconds: int) -> list[str]:
    """0, 1, ... up to `max_seconds`."""
    return [str(second) for second in range(max_seconds + 1)]


def to_words(facts: Facts) -> tuple[str, ...]:
    """The sentence; punctuation marks are separate words."""
    clauses: list[str] = []
    if adjectives := [word for word in (facts.light, facts.detail) if word]:
        clauses.append(f"a {' , '.join(adjectives)} picture")
    for moves, group in groupby(facts.story, lambda item: isinstance(item, Move)):
        if moves:
            clauses.append(f"{CAMERA} {f' {THEN} '.join(_verbs(item) for item in group if isinstance(item, Move))}")
        else:
            clauses.extend(_clause(item) for item in group if isinstance(item, Event))
    return (*" ; ".join(clauses).split(), ".")


def to_facts(words: Sequence[str]) -> Facts | None:
    """What a sentence says; None if `to_words` cannot have written it."""
    if not words or words[-1] != ".":
        return None
    clauses = [" ".join(part) for part in _split(words[:-1], ";")]
    light: Light | None = None
    detail: Detail | None = None
    if clauses[0].startswith("a ") and clauses[0].endswith(" picture"):
        adjectives = clauses.pop(0).split()
        light = "dark" if "dark" in adjectives else "bright" if "bright" in adjectives else None
        detail = "plain" if "plain" in adjectives else "busy" if "busy" in adjectives else None
    story: list[Move | Event] = []
    for clause in clauses:
        found = list(_moves(clause)) or _event(clause)
        if not found:
            return None
        story.extend(found)
    facts = Facts(light, detail, tuple(story))
    return facts if to_words(facts) == tuple(words) else None


def _verbs(move: Move) -> str:
    return f" {AND} ".join(MOVES[label] for label in move.labels)


def _clause(event: Event) -> str:
    if event.seconds is None:
        return UNTIMED[event.edit]
    return f"{TIMED[event.edit]} {time_word(event.seconds, event.edit)} s"


def _split(words: Sequence[str], mark: str) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word == mark:
            yield part
            part = []
        else:
            part.append(word)
    yield part


def _moves(clause: str) -> Iterator[Move]:
    """The moves in a clause about the camera; none for any other clause."""
    if not clause.startswith(f"{CAMERA} "):
        return
    labels = {verb: label for label, verb in MOVES.items()}
    for part in clause.removeprefix(f"{CAMERA} ").split(f" {THEN} "):
        yield Move(tuple(labels[verb] for verb in part.split(f" {AND} ") if verb in labels))


def _event(clause: str) -> list[Event]:
    for edit, phrase in UNTIMED.items():
        if clause == phrase:
            return [Event(edit)]
    for edit, phrase in TIMED.items():
        *_, number, unit = clause.split() if " " in clause else ("", "")
        if clause == f"{phrase} {number} {unit}" and unit == "s" and number.replace(".", "", 1).isdigit():
            return [Event(edit, float(number))]
    return []


def move_of(holds: Iterable[bool]) -> Move:
    """The move for which of MOTIONS hold; if none does, it is static."""
    labels = tuple(label for label, held in zip(MOTIONS, holds, strict=True) if held)
    return Move(labels or (MOTIONS[STATIC],))
