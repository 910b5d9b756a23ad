"""What options of a command take, in argparse's way."""

import argparse
from collections.abc import Callable


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type of whole numbers in [least, most]."""

    def number(text: str) -> int:
        found = int(text)
        if found < least or (most is not None and found > most):
            raise argparse.ArgumentTypeError(f"{found} is not at least {least}{f' and at most {most}' if most else ''}")
        return found

    return number


def fraction(text: str) -> float:
    """A number in [0, 1)."""
    found = float(text)
    if not 0 <= found < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return found
