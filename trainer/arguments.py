"""What options of a command take, in argparse's way."""

import argparse
import re
from collections.abc import Callable

from app.models.manifest import NAME_PATTERN


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type of whole numbers in [least, most]."""

    def number(text: str) -> int:
        found = int(text)
        if found < least or (most is not None and found > most):
            raise argparse.ArgumentTypeError(f"{found} is not at least {least}{f' and at most {most}' if most else ''}")
        return found

    return number


def model_name(text: str) -> str:
    """A name that a model can have."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text} is not a name of lower case, digits and hyphens, 63 at most")
    return text


def fraction(text: str) -> float:
    """A number in [0, 1)."""
    found = float(text)
    if not 0 <= found < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return found
