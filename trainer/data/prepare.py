"""From a folder or CSV to decoded videos in splits; all commands come in this way."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.data.cache import CachedVideo, DecodedVideo, decode_all, open_video
from trainer.data.checks import find_problems
from trainer.data.decode import CacheSpec
from trainer.data.filling import BrokenVideo, tell
from trainer.data.listing import Split, Video, labels_of, read_listing
from trainer.data.rows import InvalidListing
from trainer.data.splits import count_by_split
from trainer.recipe.classify import ClassifyRecipe


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Where labelled videos are and how to divide them."""

    data: Path
    """A folder or a CSV."""
    group_pattern: str | None = None
    val_fraction: float = 0.15
    test_fraction: float = 0.0
    test_data: Path | None = None
    """Another folder or CSV: all of it is `test`."""
    cache: Path = Path("cache")
    num_processes: int | None = None
    """How many decoders run at once; None: one per core."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """Labelled videos, decoded."""

    videos: list[Video]
    labels: tuple[str, ...]
    decoded: list[DecodedVideo]
    broken: list[BrokenVideo]

    def opened(self, split: Split) -> list[CachedVideo]:
        """The videos of one split, as training and evaluation take them."""
        return [open_video(item, self.labels) for item in self.decoded if item.video.split == split]

    def num_videos(self) -> dict[str, int]:
        """By split, counting only decoded videos."""
        return count_by_split(item.video for item in self.decoded)


def cache_spec(recipe: ClassifyRecipe) -> CacheSpec:
    """What the recipe wants the cache to keep of each video."""
    return CacheSpec(
        width=recipe.input.width,
        height=recipe.input.height,
        fit=recipe.input.fit,
        clip_length=recipe.input.clip_length,
        frames_width=recipe.cache.width,
        frames_height=recipe.cache.height,
        frames_rate=recipe.cache.rate,
    )


def list_videos(options: DataOptions) -> list[Video]:
    """All videos that the options name, with the splits given so far. Raises InvalidListing.

    If there is test data, videos that share a group with it are left out.
    """
    videos = read_listing(options.data, options.group_pattern)
    if options.test_data:
        if options.test_data.resolve() == options.data.resolve():
            raise InvalidListing(f"{options.test_data} is the training data: it cannot be the test data too")
        test = read_listing(options.test_data, options.group_pattern, prefix=test_prefix(options.test_data))
        test = [replace(video, split="test") for video in test]
        if unknown := set(labels_of(test)) - set(labels_of(videos)):
            raise InvalidListing(
                f"{options.test_data} has labels that {options.data} lacks: {', '.join(sorted(unknown))}"
            )
        videos = [*without_groups(videos, test), *test]
    return videos


def test_prefix(test_data: Path) -> str:
    """A prefix for groups that are paths, so that test data has its own groups even if all names are the same."""
    return f"{test_data.resolve()}/"


def without_groups(videos: Sequence[Video], test: Sequence[Video]) -> list[Video]:
    """The videos without those whose group is in the test data. Tells on standard error which those are."""
    held_back = {video.group for video in test}
    if shared := [video for video in videos if video.group in held_back]:
        first = shared[0]
        sys.stderr.write(
            f"left out: {len(shared)} files whose group is in the test data too, such as {first.path}: {first.group}\n"
        )
    return [video for video in videos if video.group not in held_back]


def decode_data(videos: Sequence[Video], spec: CacheSpec, options: DataOptions) -> DataSet:
    """The videos, decoded. Names on standard error those left out and whatever else is wrong."""
    decoded, broken = decode_all(videos, spec, options.cache, options.num_processes)
    tell(broken, find_problems(videos, decoded, broken))
    if not decoded:
        sounds = any("no moving picture" in item.reason for item in broken)
        hint = ": for sounds, give a recipe for sound, such as --recipe trainer/recipes/emotion.yaml" if sounds else ""
        raise InvalidListing(f"none of the {len(videos)} videos can be decoded{hint}")
    return DataSet(list(videos), labels_of(videos), decoded, broken)
