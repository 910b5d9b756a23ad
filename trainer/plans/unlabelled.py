"""Lists and decodes videos to learn from whatever their labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainer.data.cache import decode_all
from trainer.data.checks import file_problems
from trainer.data.decode import CacheSpec
from trainer.data.filling import tell
from trainer.data.listing import Video, labels_of, list_files
from trainer.data.prepare import DataOptions, DataSet, list_videos, test_prefix, without_groups
from trainer.data.rows import InvalidListing
from trainer.data.sounds import list_unlabelled


def list_any(options: DataOptions) -> list[Video]:
    """All videos that the options name, like `list_videos`, but a folder may also hold videos without class folders.

    Raises InvalidListing.
    """
    if not _holds_files_alone(options.data):
        return list_videos(options)
    videos = list_files(options.data, options.group_pattern)
    if options.test_data:
        found = list_unlabelled(options.test_data, options.group_pattern, test_prefix(options.test_data))
        test = [replace(video, split="test") for video in found]
        videos = [*without_groups(videos, test), *test]
    return videos


def decode_any(videos: Sequence[Video], spec: CacheSpec, options: DataOptions) -> DataSet:
    """Like `decode_data`, but says nothing about classes. Raises InvalidListing if nothing can be decoded."""
    decoded, broken = decode_all(videos, spec, options.cache, options.num_processes)
    tell(broken, file_problems(decoded, broken))
    if not decoded:
        raise InvalidListing(f"none of {len(videos)} videos can be decoded")
    return DataSet(list(videos), labels_of(videos), decoded, broken)


def _holds_files_alone(data: Path) -> bool:
    return data.is_dir() and not any(path.is_dir() and not path.name.startswith(".") for path in data.iterdir())
