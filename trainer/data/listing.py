"""Lists labelled videos, from a folder per class or a CSV file."""

import csv
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.data.rows import InvalidListing, read_rows

Split = Literal["train", "val", "test"]
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
COLUMNS = ("path", "label", "split", "group", "start", "end")


@dataclass(frozen=True, slots=True)
class Video:
    """One labelled video, or one labelled part of a video."""

    path: Path
    label: str
    group: str
    """Videos of one group come from one source and never end up in different splits."""
    split: Split | None = None
    """None: `splits.split_by_group` will choose it."""
    start_seconds: float | None = None
    """From the first displayed frame; None: the beginning."""
    end_seconds: float | None = None
    """Exclusive; None: the end."""


def read_listing(
    data: Path, group_pattern: str | None = None, under: str = "", extra_columns: bool = False, prefix: str = ""
) -> list[Video]:
    """All labelled videos of `data`, a folder or a CSV file, in a stable order.

    A folder holds `<class>/**/<video>`, or the same inside `train`, `val` and `test`. A CSV has the columns `path` and
    `label`, and may have `split`, `group`, `start` and `end` (seconds); its paths are relative to the CSV itself.
    The group comes from the CSV, else from what `group_pattern` captures in the path below `data`, else it is the path.
    `under` keeps only the rows of a CSV whose path begins with it. `prefix` tells groups that are paths from those of
    another data set. Raises InvalidListing.
    """
    grouping = Grouping(re.compile(group_pattern) if group_pattern else None, prefix)
    if data.is_dir():
        return _read_folder(data, grouping)
    if data.is_file():
        return _read_csv(data, grouping, under, extra_columns)
    raise InvalidListing(f"no such folder or CSV file: {data}")


@dataclass(frozen=True, slots=True)
class Grouping:
    """Finds the source of a video where no column names it."""

    pattern: re.Pattern[str] | None
    prefix: str = ""

    def group(self, path: str) -> str:
        """The group of the video at `path`, which is relative to the data."""
        if self.pattern is None:
            return self.prefix + path
        match = self.pattern.search(path)
        if match is None:
            raise InvalidListing(f"the group pattern {self.pattern.pattern!r} is not found in {path!r}")
        captured = [group for group in match.groups() if group is not None]  # only one of several alternatives captures
        return "/".join(captured) or match.group()


def list_files(folder: Path, group_pattern: str | None = None, prefix: str | None = None) -> list[Video]:
    """All files below a folder, for learning without labels: their label is the folder's name.

    The group is what `group_pattern` captures in the path below the folder. Without a pattern each file is its own
    group, and `prefix`, or the folder's name, tells it from groups of other folders. Raises InvalidListing.
    """
    prefix = f"{folder.name}/" if prefix is None else prefix
    grouping = Grouping(re.compile(group_pattern) if group_pattern else None, prefix)
    return [Video(path, folder.name, grouping.group(path.relative_to(folder).as_posix())) for path in _files(folder)]


def labels_of(videos: Iterable[Video]) -> tuple[str, ...]:
    """The distinct labels in the order of the model's logits: sorted, like the folders."""
    return tuple(sorted({video.label for video in videos}))


def write_listing(videos: Iterable[Video], output: Path) -> None:
    """Writes a CSV that `read_listing` can read; paths below the CSV's folder are relative, others absolute."""
    folder = output.resolve().parent
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for video in videos:
            path = video.path.absolute()
            shown = path.relative_to(folder) if path.is_relative_to(folder) else path
            times = ("" if seconds is None else seconds for seconds in (video.start_seconds, video.end_seconds))
            writer.writerow([shown.as_posix(), video.label, video.split or "", video.group, *times])


def _read_folder(folder: Path, grouping: Grouping) -> list[Video]:
    roots = _split_folders(folder) or [(folder, None)]
    by_class = [(label, split, _files(label)) for root, split in roots for label in _subfolders(root)]
    videos = [
        Video(path, label.name, grouping.group(path.relative_to(folder).as_posix()), split)
        for label, split, paths in by_class
        for path in paths
    ]
    if not videos:
        raise InvalidListing(f"no videos in {folder}: expected {folder}/<class>/<video>")
    for label, _, paths in by_class:
        if not paths:
            sys.stderr.write(f"warning: {label} has no files: it is no class\n")
    for root, _ in roots:
        if loose := [path for path in sorted(root.iterdir()) if path.is_file() and not path.name.startswith(".")]:
            sys.stderr.write(f"left out: files beside the classes in {root}, which have no label: {loose[0].name}, …\n")
    return videos


def _split_folders(folder: Path) -> list[tuple[Path, Split | None]]:
    """The subfolders named like splits, if there are no others and one is `train` or they hold folders.

    Raises InvalidListing for other folders beside `train` and one of the two: all would become classes.
    """
    folders = _subfolders(folder)
    splits = [SPLIT_NAMES.get(path.name.lower()) for path in folders]
    if "train" not in splits and not any(map(_subfolders, folders)):
        return []
    others = [path.name for path, split in zip(folders, splits, strict=True) if split is None]
    if others and "train" in splits and {"val", "test"} & {*splits}:
        raise InvalidListing(
            f"{folder} holds splits and, beside them, {', '.join(others)}: leave those out, or give a CSV"
        )
    return [] if others else list(zip(folders, splits, strict=True))


def _files(folder: Path) -> list[Path]:
    """All files below `folder` in order, except hidden ones. Raises InvalidListing for a name that is not UTF-8.

    A link to nothing counts as a file that cannot be read: decoding it says so. Links to folders are not followed, for
    they may lead round in a circle; standard error names them.
    """
    found = sorted(
        path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    for path in found:
        if path.is_symlink() and path.is_dir():
            sys.stderr.write(f"warning: {path} is a link to a folder, whose files are left out: move them here\n")
    paths = [path for path in found if path.is_file() or not path.exists()]
    for path in paths:
        if path.as_posix() != os.fsencode(path).decode(errors="replace"):
            raise InvalidListing(f"{os.fsencode(path)!r}: a name that is not UTF-8 can be in no CSV and no model")
    return paths


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_csv(file: Path, grouping: Grouping, under: str, extra_columns: bool) -> list[Video]:
    videos = [
        read_row(row, where, file.parent, grouping)
        for where, row in read_rows(file, ("path", "label"), None if extra_columns else COLUMNS)
        if row["path"].startswith(under) and (row["label"] or not extra_columns)
    ]
    if not videos:
        raise InvalidListing(f"{file}: no labelled rows{f' under {under}' if under else ''}")
    return videos


def read_row(row: dict[str, str], where: str, folder: Path, grouping: Grouping) -> Video:
    """The video of a row with our own columns; its path is relative to `folder`. Raises InvalidListing."""
    label, split = row["label"], row.get("split", "").lower()
    if not label:
        raise InvalidListing(f"{where}: no label")
    if not row["path"]:
        raise InvalidListing(f"{where}: no path")
    if split and split not in SPLIT_NAMES:
        raise InvalidListing(f"{where}: split {split!r} is not one of {', '.join(SPLIT_NAMES)}")
    start, end = _seconds(row.get("start"), where), _seconds(row.get("end"), where)
    if start is not None and end is not None and end <= start:
        raise InvalidListing(f"{where}: end {end} is not after start {start}")
    return Video(
        path=folder / row["path"],
        label=label,
        group=row.get("group") or grouping.group(Path(row["path"]).as_posix()),  # ./a is a
        split=SPLIT_NAMES[split] if split else None,
        start_seconds=start,
        end_seconds=end,
    )


def _seconds(text: str | None, where: str) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        raise InvalidListing(f"{where}: {text!r} is not a number of seconds") from None
    if not 0 <= seconds < float("inf"):
        raise InvalidListing(f"{where}: {text} seconds is out of range")
    return seconds
