"""What is wrong with a data set before any training: the report of `inspect` and the warnings of `train`."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.data.cache import DecodedVideo
from trainer.data.filling import BrokenVideo
from trainer.data.listing import Video, labels_of
from trainer.data.splits import groups_in_several_splits

MAX_IMBALANCE = 5.0
"""Largest over smallest class beyond which accuracy says little."""
MAX_MEDIAN_RATIO = 1.5
"""Between the medians of two splits."""
MAX_BROKEN_SHARE = 0.05

FACTS: dict[str, Callable[[DecodedVideo], float]] = {
    "duration (s)": lambda decoded: decoded.entry.duration_seconds,
    "frame rate": lambda decoded: decoded.entry.frame_rate or 0.0,
    "width": lambda decoded: decoded.entry.width,
    "height": lambda decoded: decoded.entry.height,
}


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median and largest of one fact in one split."""

    fact: str
    split: str
    low: float
    median: float
    high: float


def spreads(decoded: Sequence[DecodedVideo]) -> list[Spread]:
    """Every fact of every split, splits in order."""
    by_split: dict[str, list[DecodedVideo]] = defaultdict(list)
    for item in decoded:
        by_split[item.video.split or "all"].append(item)
    result = []
    for fact, value in FACTS.items():
        for split in _ordered(by_split):
            values = np.array([value(item) for item in by_split[split]])
            result.append(Spread(fact, split, values.min(), float(np.median(values)), values.max()))
    return result


def count_table(videos: Sequence[Video]) -> list[list[str]]:
    """Rows of label, videos per split, groups; the first row is the heading, the last the sum."""
    splits = _ordered({video.split or "all" for video in videos})
    counts: Counter[tuple[str, str]] = Counter((video.label, video.split or "all") for video in videos)
    rows = [["label", *splits, "groups"]]
    for label in labels_of(videos):
        groups = {video.group for video in videos if video.label == label}
        rows.append([label, *(str(counts[label, split]) for split in splits), str(len(groups))])
    sums = (str(sum(video.split == split or splits == ["all"] for video in videos)) for split in splits)
    return [*rows, ["all", *sums, str(len({video.group for video in videos}))]]


def find_problems(videos: Sequence[Video], decoded: Sequence[DecodedVideo], broken: Sequence[BrokenVideo]) -> list[str]:
    """One sentence for each thing that would make training or its figures worth less; empty: nothing found."""
    return [
        *_broken_problems(broken, len(videos)),
        *_class_problems([item.video for item in decoded]),
        *_overlap_problems(decoded),
        *_shift_problems(decoded),
    ]


def _broken_problems(broken: Sequence[BrokenVideo], num_videos: int) -> list[str]:
    if len(broken) <= MAX_BROKEN_SHARE * num_videos:
        return []
    return [f"{len(broken)} of {num_videos} files are left out"]


def _class_problems(videos: Sequence[Video]) -> list[str]:
    problems = []
    counts = Counter(video.label for video in videos)
    if len(counts) < 2:
        problems.append("there are fewer than two classes")
    elif max(counts.values()) > MAX_IMBALANCE * min(counts.values()):
        (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
        problems.append(f"classes are far from balanced: {high} of {most}, {low} of {least}")
    for split in _ordered({video.split for video in videos if video.split}):
        missing = set(counts) - {video.label for video in videos if video.split == split}
        if missing:
            problems.append(f"no {split} video of {', '.join(sorted(missing))}")
    return problems


def _overlap_problems(decoded: Sequence[DecodedVideo]) -> list[str]:
    problems = []
    if groups := groups_in_several_splits(item.video for item in decoded):
        problems.append(f"{len(groups)} groups are in several splits, such as {sorted(groups)[0]}")
    labels: dict[tuple[str, float | None], set[str]] = defaultdict(set)
    for item in decoded:
        labels[item.entry.sha256, item.video.start_seconds].add(item.video.label)
    if conflicts := [" and ".join(sorted(found)) for found in labels.values() if len(found) > 1]:
        problems.append(f"{len(conflicts)} files have several labels, such as {conflicts[0]}")
    return problems


def _shift_problems(decoded: Sequence[DecodedVideo]) -> list[str]:
    """Where videos of validation or test are not like those of training, the figures are of something else."""
    problems = []
    medians = {(spread.fact, spread.split): spread.median for spread in spreads(decoded)}
    for fact in FACTS:
        train = medians.get((fact, "train"))
        for split in ("val", "test"):
            other = medians.get((fact, split))
            if train and other and max(train, other) > MAX_MEDIAN_RATIO * min(train, other):
                problems.append(f"the median {fact} is {train:g} in train and {other:g} in {split}")
    return problems


def _ordered(splits: Iterable[str]) -> list[str]:
    order = ("train", "val", "test", "all")
    return sorted(splits, key=order.index)
