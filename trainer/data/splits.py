"""Train, validation and test sets that never share a source video."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from trainer.data.listing import Split, Video, labels_of
from trainer.data.rows import InvalidListing


def split_by_group(videos: Sequence[Video], val_fraction: float, test_fraction: float = 0.0) -> list[Video]:
    """The videos, each with a split: its own, its group's, or one drawn from the hash of its group's name.

    If no video is `val` yet, it is drawn from those that are `train` or have no split; the same goes for `test`. A draw
    depends only on the group's name, so adding or removing files never moves another, with one exception: a label that
    drew no group for `val` or `test` gives the one that came closest, if it has two to train on. Fractions are shares
    of groups, in [0, 1), and are met only roughly if there are few groups. A fraction of 0 holds back nothing beyond
    the given splits. Raises InvalidListing if a group is in several splits already, if `train` would be empty, or if
    `val` or `test` would be although some was asked for.
    """
    given = _given_splits(videos)
    val_fraction = 0.0 if "val" in given.values() else val_fraction
    test_fraction = 0.0 if "test" in given.values() else test_fraction

    splits: dict[str, Split] = {group: given.get(group) or "train" for group in {video.group for video in videos}}
    for group, split in splits.items():
        if split == "train":
            splits[group] = _draw(group, val_fraction, test_fraction)
    if val_fraction:
        _hold_back_every_label(videos, splits, "val")
    if test_fraction:
        _hold_back_every_label(videos, splits, "test")
    result = [replace(video, split=splits[video.group]) for video in videos]
    counts = Counter(video.split for video in result)
    if not counts["train"] or (val_fraction and not counts["val"]) or (test_fraction and not counts["test"]):
        raise InvalidListing(
            f"{counts['train']} videos to train on, {counts['val']} to validate with, {counts['test']} to test on: "
            "more groups, other fractions or a column `split` is needed"
        )
    return result


def with_their_groups(videos: Sequence[Video]) -> list[Video]:
    """The videos, each with the split given to its group, if any: like `split_by_group`, without a draw.

    Raises InvalidListing if a group is in several splits.
    """
    given = _given_splits(videos)
    return [replace(video, split=given.get(video.group)) for video in videos]


def copies_held_back(videos: Sequence[Video], digests: Sequence[str | None]) -> dict[Video, Video]:
    """The videos of `train` that are also in `val` or `test`, and of `val` also in `test`, each with its copy.

    `digests`: SHA-256 of their files; None for one that cannot be read. Parts of one file are copies if they overlap.
    """
    order: tuple[Split, ...] = ("train", "val", "test")
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video, digest in zip(videos, digests, strict=True):
        if video.split and digest:
            by_content[digest].append(video)
    copies: dict[Video, Video] = {}
    for same in by_content.values():
        held_back = [video for video in same if video.split != "train"]
        for video in same:
            place = order.index(video.split or "train")
            later = (other for other in held_back if other.split in order[place + 1 :] and _overlap(video, other))
            if other := next(later, None):
                copies[video] = other
    return copies


def count_by_split(videos: Iterable[Video]) -> dict[str, int]:
    """How many videos each split has, without empty splits."""
    counts = Counter(video.split for video in videos)
    order: tuple[Split, ...] = ("train", "val", "test")
    return {split: counts[split] for split in order if counts[split]}


def kept_apart(videos: Sequence[Video]) -> str:
    """What is never in two splits, in words: a group, or if groups join no files, each file or each part of one."""
    parts = [video for video in videos if (video.start_seconds, video.end_seconds) != (None, None)]
    if len({(part.path, part.split) for part in parts}) > len({part.path for part in parts}):
        return "part (files are divided among them)"
    joined = len({video.group for video in videos}) < len({video.path for video in videos})
    return "source (group)" if joined else "file"


def check_labels(labels: Sequence[str], counts: Sequence[int]) -> None:
    """Raises InvalidListing unless there are labels to tell apart, each with examples to learn from.

    `counts[i]`: decoded training examples of label i.
    """
    if len(labels) < 2:
        raise InvalidListing(f"there is only one class, {', '.join(labels)}: nothing to tell apart")
    if empty := [label for label, count in zip(labels, counts, strict=True) if not count]:
        raise InvalidListing(
            f"nothing to learn {', '.join(empty)} from: `train` has no file of it that can be decoded. Leave it out, "
            "add files, or choose the splits with --val-fraction 0 or a column `split`"
        )


def groups_in_several_splits(videos: Iterable[Video]) -> set[str]:
    """Groups whose videos have different splits: a model would be tested on a source it was trained on."""
    splits: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        if video.split:
            splits[video.group].add(video.split)
    return {group for group, found in splits.items() if len(found) > 1}


def _given_splits(videos: Sequence[Video]) -> dict[str, Split]:
    """The split of each group in which some video has one. Raises InvalidListing for a group with several."""
    if overlap := groups_in_several_splits(videos):
        raise InvalidListing(f"in several splits: group {', '.join(sorted(overlap)[:5])}")
    return {video.group: video.split for video in videos if video.split}


def _hold_back_every_label(videos: Sequence[Video], splits: dict[str, Split], split: Literal["val", "test"]) -> None:
    """For each label without a group in `split`, moves one there from `train`, in place.

    A group stays if it is the last one in `train` for some label.
    """
    closest = min if split == "val" else max  # as `_draw` has them
    groups: dict[str, set[str]] = {label: set() for label in labels_of(videos)}
    labels: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        groups[video.label].add(video.group)
        labels[video.group].add(video.label)

    def can_go(group: str) -> bool:
        return splits[group] == "train" and all(
            sum(splits[other] == "train" for other in groups[label]) > 1 for label in labels[group]
        )

    for own in groups.values():
        if all(splits[group] != split for group in own) and (free := list(filter(can_go, own))):
            splits[closest(free, key=_place)] = split


def _overlap(video: Video, other: Video) -> bool:
    """Whether two parts of one file have a moment in common."""
    return all(
        (one.start_seconds or 0.0) < (math.inf if two.end_seconds is None else two.end_seconds)
        for one, two in ((video, other), (other, video))
    )


def _draw(group: str, val_fraction: float, test_fraction: float) -> Split:
    place = _place(group)
    if place < val_fraction:
        return "val"
    return "test" if place >= 1 - test_fraction else "train"


def _place(group: str) -> float:
    """In [0, 1), the same on every machine."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
