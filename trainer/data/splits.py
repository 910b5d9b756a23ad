"""Train, validation and test sets that never share a source video."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from trainer.data.listing import Split, Video, labels_of
from trainer.data.rows import InvalidListing


def split_by_group(videos: Sequence[Video], val_fraction: float, test_fraction: float = 0.0) -> list[Video]:
    """The videos, each with a split: its own, its group's, or one drawn from the hash of its group's name.

    Where no video is `val` yet, it is drawn from those that are `train` or nothing; the same for `test`. A draw
    depends on the group's name alone, so that adding or removing files never moves another, with one exception: a
    label that drew no group for `val` gives the one that came closest, if it has two.
    Fractions are of groups, in [0, 1), and met only roughly where groups are few.
    A fraction of 0 holds nothing back that was not given. Raises InvalidListing if a group is in several splits
    already, or if `train` would be empty, or `val` though some was asked for.
    """
    if overlap := groups_in_several_splits(videos):
        raise InvalidListing(f"in several splits: group {', '.join(sorted(overlap)[:5])}")
    given = {video.group: video.split for video in videos if video.split}
    val_fraction = 0.0 if "val" in given.values() else val_fraction
    test_fraction = 0.0 if "test" in given.values() else test_fraction

    splits: dict[str, Split] = {group: given.get(group) or "train" for group in {video.group for video in videos}}
    for group, split in splits.items():
        if split == "train":
            splits[group] = _draw(group, val_fraction, test_fraction)
    if val_fraction:
        _validate_every_label(videos, splits)
    result = [replace(video, split=splits[video.group]) for video in videos]
    num_train, num_val = (sum(video.split == split for video in result) for split in ("train", "val"))
    if not num_train or (val_fraction and not num_val):
        raise InvalidListing(
            f"{num_train} videos to train on, {num_val} to validate with: "
            "more groups, another validation fraction or a column `split` is needed"
        )
    return result


def check_labels(labels: Sequence[str], counts: Sequence[int]) -> None:
    """Raises InvalidListing unless there are labels to tell apart, each with something to learn it from.

    `counts[i]`: training examples of label i that could be decoded.
    """
    if len(labels) < 2:
        raise InvalidListing(f"there is one class only, {', '.join(labels)}: nothing to tell apart")
    if empty := [label for label, count in zip(labels, counts, strict=True) if not count]:
        raise InvalidListing(
            f"nothing to learn {', '.join(empty)} from: no file of it in train that can be decoded. Leave it out, add "
            "files, or choose the splits by --val-fraction 0 or a column `split`"
        )


def groups_in_several_splits(videos: Iterable[Video]) -> set[str]:
    """Groups whose videos were given different splits: a model would be tested on a source it was trained on."""
    splits: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        if video.split:
            splits[video.group].add(video.split)
    return {group for group, found in splits.items() if len(found) > 1}


def _validate_every_label(videos: Sequence[Video], splits: dict[str, Split]) -> None:
    """Moves a group from `train` to `val` for each label that has none there, in place."""
    for label in labels_of(videos):
        groups = {video.group for video in videos if video.label == label}
        train = [group for group in groups if splits[group] == "train"]
        if len(train) > 1 and all(splits[group] != "val" for group in groups):
            splits[min(train, key=_place)] = "val"


def _draw(group: str, val_fraction: float, test_fraction: float) -> Split:
    place = _place(group)
    if place < val_fraction:
        return "val"
    return "test" if place >= 1 - test_fraction else "train"


def _place(group: str) -> float:
    """In [0, 1), the same on every machine."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
