"""Videos that people have described: our own CSV, and the layouts of MSVD and MSR-VTT, which become one."""

import csv
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainer.data.listing import SPLIT_NAMES, Grouping, Split, Video
from trainer.data.rows import InvalidListing, read_rows

COLUMNS = ("path", "caption", "split", "group")
LABEL = "captioned"
VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov")


@dataclass(frozen=True, slots=True)
class Captioned:
    """One video and what people say about it."""

    video: Video
    captions: tuple[str, ...]


def read_captions(data: Path, group_pattern: str | None = None) -> list[Captioned]:
    """The videos of a CSV with the columns `path` and `caption`, and perhaps `split` and `group`, one row per caption.

    Paths are relative to the CSV itself. The rows of a video need not be together. The group comes from the CSV, else
    from what `group_pattern` captures in the path, else it is the path. Raises InvalidListing.
    """
    if not data.is_file():
        raise InvalidListing(f"no such CSV file: {data}; captions are in one with the columns path and caption")
    grouping = Grouping(re.compile(group_pattern) if group_pattern else None)
    found: dict[str, tuple[Video, list[str]]] = {}
    for where, row in read_rows(data, ("path", "caption"), COLUMNS):
        caption, split = row["caption"], row.get("split", "").lower()
        if not caption:
            raise InvalidListing(f"{where}: no caption")
        if split and split not in SPLIT_NAMES:
            raise InvalidListing(f"{where}: split {split!r} is not one of {', '.join(SPLIT_NAMES)}")
        path = Path(row["path"]).as_posix()
        given = Video(data.parent / path, LABEL, row.get("group") or grouping.group(path), SPLIT_NAMES.get(split))
        video, captions = found.setdefault(path, (given, []))
        if given != video:
            raise InvalidListing(f"{where}: another split or group than before for {row['path']}")
        captions.append(caption)
    if not found:
        raise InvalidListing(f"{data}: no rows")
    return [Captioned(video, tuple(captions)) for video, captions in found.values()]


def read_msvd(descriptions: Path, videos: Path) -> list[Captioned]:
    """MSVD: `AllVideoDescriptions.txt`, lines of `<YouTube id>_<start>_<end> <caption>`, and a folder of clips.

    The clips of one YouTube video are one group. Clips that are not in the folder are left out.
    """
    captions: dict[str, list[str]] = {}
    for line in descriptions.read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition(" ")
        if caption.strip() and not line.startswith("#"):
            captions.setdefault(name, []).append(caption.strip())
    return _present(((name, name.rsplit("_", 2)[0], None, found) for name, found in captions.items()), videos)


def read_msr_vtt(annotations: Path, videos: Path) -> list[Captioned]:
    """MSR-VTT: the JSON with `videos` (`video_id`, `split`, `url`) and `sentences` (`video_id`, `caption`), and clips.

    The clips of one URL are one group, unless the data set puts them in different splits: then its splits count. Raises
    InvalidListing.
    """
    captions: dict[str, list[str]] = {}
    rows = []
    try:
        content = json.loads(annotations.read_text(encoding="utf-8"))
        for sentence in content["sentences"]:
            captions.setdefault(sentence["video_id"], []).append(sentence["caption"].strip())
        for video in content["videos"]:
            split = SPLIT_NAMES.get(video["split"])
            group = f"{video.get('url') or video['video_id']} {split or ''}".strip()
            rows.append((video["video_id"], group, split, captions.get(video["video_id"], [])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidListing(f"{annotations} is not MSR-VTT's JSON: {error!r}") from error
    return _present(rows, videos)


def write_captions(captioned: Iterable[Captioned], output: Path) -> None:
    """Writes a CSV that `read_captions` can read; paths below its folder are relative, others absolute."""
    folder = output.resolve().parent
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for one in captioned:
            path = one.video.path.absolute()
            shown = (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
            writer.writerows([shown, caption, one.video.split or "", one.video.group] for caption in one.captions)


def _present(rows: Iterable[tuple[str, str, Split | None, list[str]]], videos: Path) -> list[Captioned]:
    """(name, group, split, captions) of the videos that have a file. Raises InvalidListing if none has."""
    files = {path.stem: path for path in sorted(videos.rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES}
    found = [
        Captioned(Video(files[name], LABEL, group, split), tuple(captions))
        for name, group, split, captions in rows
        if name in files and captions
    ]
    if not found:
        raise InvalidListing(f"{videos} has none of the videos that are described")
    return found
