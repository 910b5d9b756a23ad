"""Reads the index of a data set as its makers wrote it: a CSV with its own columns, whose files lie elsewhere."""

from collections.abc import Mapping
from pathlib import Path

from trainer.data.listing import Grouping, Video, read_row
from trainer.data.rows import InvalidListing, read_rows


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """`path=file label=digit` -> {"path": "file", "label": "digit"}. Raises InvalidListing."""
    columns = dict(pair.partition("=")[::2] for pair in pairs)
    if not {"path", "label"} <= columns.keys() <= {"path", "label", "split", "group"} or not all(columns.values()):
        raise InvalidListing("give --columns as path=NAME label=NAME and, if there are such, split=NAME and group=NAME")
    return columns


def read_index(index: Path, root: Path, columns: Mapping[str, str]) -> list[Video]:
    """The rows of `index` in order, with paths below `root`. Raises InvalidListing.

    `columns`: the index's names for `path`, `label`, `split` and `group`. Without a group column, each file is its own
    group.
    """
    own = Grouping(None)
    videos = [
        read_row({name: row[column] for name, column in columns.items()}, where, root, own)
        for where, row in read_rows(index, columns.values())
    ]
    if absent := [video.path for video in videos if not video.path.is_file()]:
        raise InvalidListing(f"{len(absent)} of {len(videos)} files are not below {root}, such as {absent[0]}")
    return videos
