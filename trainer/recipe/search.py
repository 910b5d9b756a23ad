"""What to try for a recipe's settings: `section.key=low..high`, `section.key=low..high:log`, `section.key=a,b,c`."""

import math
import re
from dataclasses import dataclass
from typing import Protocol

from trainer.recipe.reading import RecipeError
from trainer.recipe.sections import Recipe

_RANGE = re.compile(r"(?P<low>[^,:]+?)\.\.(?P<high>[^,:]+?)(?P<log>:log)?")
_COMMA = re.compile(r",(?![^\[]*\])")
"""Between values, but not inside the brackets of a list."""
_DIGITS = 4
"""Of a number drawn from a range, so that the number shown is the number tried."""


class Draws(Protocol):
    """The source of values, such as an `optuna.Trial`."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int: ...
    def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> str: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, as YAML."""

    key: str
    values: tuple[str, ...]

    def draw(self, draws: Draws) -> str:
        """`section.key=value`."""
        return f"{self.key}={draws.suggest_categorical(self.key, self.values)}"


@dataclass(frozen=True, slots=True)
class Range:
    """A range of whole numbers or of any, with both ends included."""

    key: str
    low: float
    high: float
    is_log: bool
    """Whether a value is as likely to be between 1 and 10 as between 10 and 100."""
    is_whole: bool

    def draw(self, draws: Draws) -> str:
        """`section.key=value`."""
        if self.is_whole:
            return f"{self.key}={draws.suggest_int(self.key, int(self.low), int(self.high), log=self.is_log)}"
        return f"{self.key}={draws.suggest_float(self.key, self.low, self.high, log=self.is_log):.{_DIGITS}g}"


Searched = Choice | Range


def parse_search(text: str) -> Searched:
    """Raises RecipeError for text in none of these forms."""
    key, equals, wanted = text.partition("=")
    if not equals or "." not in key:
        raise RecipeError(f"{text} is not of the form section.key=low..high, low..high:log or a,b,c")
    found = _RANGE.fullmatch(wanted)
    if found is None:
        values = tuple(value.strip() for value in _COMMA.split(wanted))
        if len(set(values)) < 2 or "" in values:
            raise RecipeError(f"{text}: there is nothing to choose from")
        return Choice(key, values)
    try:
        low, high = float(found["low"]), float(found["high"])
    except ValueError:
        raise RecipeError(f"{text}: a range is between two numbers") from None
    is_log = found["log"] is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (is_log and low <= 0):
        raise RecipeError(f"{text}: a range rises{' from above 0' if is_log else ''}")
    is_whole = re.fullmatch(r"-?\d+", found["low"]) is not None and re.fullmatch(r"-?\d+", found["high"]) is not None
    return Range(key, low, high, is_log, is_whole)


def check_key(searched: Searched, recipe: Recipe) -> None:
    """Raises RecipeError for a key that the recipe does not have; it lists those that there are."""
    sections: dict[str, dict[str, object]] = recipe.model_dump()
    section, _, key = searched.key.partition(".")
    if section not in sections:
        raise RecipeError(f"{searched.key}: the recipe has {', '.join(sections)}")
    if key not in sections[section]:
        raise RecipeError(f"{searched.key}: {section} has {', '.join(sections[section])}")
