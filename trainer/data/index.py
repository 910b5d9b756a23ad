"""The index of a data set as its makers wrote it: a CSV with columns of its own, files that lie elsewhere."""

from collections.abc import Mapping
from pathlib import Path

from trainer.data.listing import SPLIT_NAMES, Video
from trainer.data.rows import InvalidListing, read_rows


def parse_columns(pairs: list[str]) -> dict[str, str]:
    """`path=file label=digit` -> {"path": "file", "label": "digit"}. Raises InvalidListing."""
    columns = dict(pair.partition("=")[::2] for pair in pairs)
    if not {"path", "label"} <= columns.keys() <= {"path", "label", "split", "group"} or not all(columns.values()):
        raise InvalidListing("columns are given as path=NAME label=NAME, and split=NAME and group=NAME where there are")
    return columns


def read_index(index: Path, root: Path, columns: Mapping[str, str]) -> list[Video]:
    """The rows of `index` in order; their paths are below `root`. Raises InvalidListing.

    `columns`: the index's name for `path`, `label`, `split` and `group`. Without a group, each file is its own.
    """
    rows = [
        {name: row[column].strip() for name, column in columns.items()} for _, row in read_rows(index, columns.values())
    ]
    if unknown := {row["split"] for row in rows if row.get("split")} - SPLIT_NAMES.keys():
        raise InvalidListing(f"{index}: split {', '.join(sorted(unknown))} is not one of {', '.join(SPLIT_NAMES)}")
    if absent := [row["path"] for row in rows if not (root / row["path"]).is_file()]:
        raise InvalidListing(f"{len(absent)} of {len(rows)} files are not below {root}, such as {absent[0]}")
    return [
        Video(
            path=root / row["path"],
            label=row["label"],
            group=row.get("group") or row["path"],
            split=SPLIT_NAMES[row["split"]] if row.get("split") else None,
        )
        for row in rows
    ]
