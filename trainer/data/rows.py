"""Reads a CSV that somebody else wrote."""

import csv
import re
from collections.abc import Collection, Iterator
from pathlib import Path


class InvalidListing(ValueError):
    """The data cannot be read as labelled videos. The message says what to change."""


def read_rows(
    file: Path, required: Collection[str], known: Collection[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """For each row, where it is, in words, and its stripped fields by column; missing fields are empty.

    `known`: the only columns allowed beside the required ones; None: any. Raises InvalidListing for anything that is
    not such a CSV in UTF-8, and for a row with more fields than columns: a comma without quotes shifts all after it.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text, restkey="", restval="")
            columns = set(reader.fieldnames or ())
            if missing := set(required) - columns:
                hint = "; captions are for `train caption`" if "caption" in columns and "label" in missing else ""
                hint = (
                    "; commas part columns, not semicolons or tabs" if re.search(r"[;\t]", "".join(columns)) else hint
                )
                raise InvalidListing(f"{file}: no column {', '.join(sorted(missing))}{hint}")
            if known is not None and (unknown := columns - {*required, *known}):
                raise InvalidListing(f"{file}: unknown columns {', '.join(sorted(unknown))}; known: {', '.join(known)}")
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if isinstance(row.get(""), list):
                    raise InvalidListing(f"{where}: more fields than columns; text with a comma needs quotes")
                if any("\0" in value for value in row.values()):
                    raise InvalidListing(f"{where}: a NUL character")
                yield where, {column: value.strip() for column, value in row.items()}
    except UnicodeDecodeError as error:
        raise InvalidListing(f"{file} is not UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise InvalidListing(f"{file} is not a CSV: {error}") from error
