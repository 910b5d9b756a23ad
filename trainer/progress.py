"""One line on the terminal that says how far a long loop is; in a log file, one line per tenth."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """The items as they are, with `what 12/645, 3 s` on standard error."""
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    for done, item in enumerate(items, start=1):
        yield item
        if terminal or done == total or done * 10 // total != (done - 1) * 10 // total:
            line = f"{what} {done}/{total}, {time.monotonic() - started:.0f} s"
            sys.stderr.write(f"\r{line}" if terminal else f"{line}\n")
            sys.stderr.flush()
    if terminal and total:
        sys.stderr.write("\n")
