"""What options of a command take, in argparse's way, and those that all commands on data have."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from app.models.manifest import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.prepare import DataOptions


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


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where data are, and how they are divided: for `data_options`."""
    parser.add_argument("--data", type=Path, required=True, help="a folder of a folder per class, or a CSV")
    parser.add_argument("--group-pattern", metavar="REGEX", help="what it captures in a path is the source video")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="where decoded videos are kept")
    parser.add_argument(
        "--decoders", type=whole_number(1), metavar="N", help="videos decoded at once (default: one per core)"
    )
    parser.add_argument("--val-fraction", type=fraction, default=0.15, help="of groups, where no split is given")
    parser.add_argument("--test-fraction", type=fraction, default=0.0, help="of groups, where no split is given")
    parser.add_argument("--test-data", type=Path, help="a folder or CSV that is all test")


def data_options(options: argparse.Namespace) -> DataOptions:
    """What `add_data` was given."""
    from trainer.data.prepare import DataOptions  # with torch, which takes seconds

    return DataOptions(
        data=options.data,
        group_pattern=options.group_pattern,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        test_data=options.test_data,
        cache=options.cache,
        num_processes=options.decoders,
    )
