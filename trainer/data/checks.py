"""Finds what is wrong with a data set before training, for the report of `inspect` and the warnings of `train`."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from trainer.data.filling import ABSENT, BrokenVideo
from trainer.data.listing import Split, Video, labels_of
from trainer.data.splits import groups_in_several_splits

MAX_IMBALANCE = 5.0
"""Largest class over smallest; beyond this, accuracy says little."""
MAX_MEDIAN_RATIO = 1.5
"""Between the medians of two splits."""
MAX_BROKEN_SHARE = 0.05


class Decoded(Protocol):
    """An entry of the cache: a DecodedVideo or a DecodedSound."""

    @property
    def video(self) -> Video: ...

    @property
    def sha256(self) -> str:
        """Of the file."""

    def facts(self) -> dict[str, float]:
        """The facts in which splits should be alike, by name and unit."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median and largest of one fact in one split."""

    fact: str
    split: str
    low: float
    median: float
    high: float


def spreads(decoded: Sequence[Decoded]) -> list[Spread]:
    """Every fact of every split, splits in order."""
    by_fact: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in decoded:
        for fact, value in item.facts().items():
            by_fact[fact][item.video.split or "all"].append(value)
    return [
        Spread(fact, split, min(by_split[split]), float(np.median(by_split[split])), max(by_split[split]))
        for fact, by_split in by_fact.items()
        for split in _ordered(by_split)
    ]


def count_table(videos: Sequence[Video]) -> list[list[str]]:
    """Rows of label, videos per split, and groups. The first row is the heading, the last the sum."""
    splits = _ordered({video.split or "all" for video in videos})
    counts: Counter[tuple[str, str]] = Counter((video.label, video.split or "all") for video in videos)
    rows = [["label", *splits, "groups"]]
    for label in labels_of(videos):
        groups = {video.group for video in videos if video.label == label}
        rows.append([label, *(str(counts[label, split]) for split in splits), str(len(groups))])
    sums = (str(sum(video.split == split or splits == ["all"] for video in videos)) for split in splits)
    return [*rows, ["all", *sums, str(len({video.group for video in videos}))]]


def find_problems(videos: Sequence[Video], decoded: Sequence[Decoded], broken: Sequence[BrokenVideo]) -> list[str]:
    """One sentence for each problem that would make training or its figures worth less; empty if there is none."""
    problems = _broken_problems(broken, len(videos))
    if decoded:
        problems += _class_problems(labels_of(videos), [item.video for item in decoded])
        problems += [*_overlap_problems(decoded), *_shift_problems(decoded)]
    return problems


def file_problems(decoded: Sequence[Decoded], broken: Sequence[BrokenVideo]) -> list[str]:
    """The problems of `find_problems` that do not depend on what the labels are for."""
    return [*_broken_problems(broken, len(decoded) + len(broken)), *_overlap_problems(decoded)]


def _broken_problems(broken: Sequence[BrokenVideo], num_videos: int) -> list[str]:
    num_absent = sum(item.reason == ABSENT for item in broken)
    if num_absent > num_videos / 2:
        return [
            f"{num_absent} of {num_videos} files do not exist: paths are relative to the CSV's folder, and "
            "backslashes do not separate folders"
        ]
    if len(broken) <= MAX_BROKEN_SHARE * num_videos:
        return []
    return [f"{len(broken)} of {num_videos} files are left out"]


def _class_problems(labels: Sequence[str], videos: Sequence[Video]) -> list[str]:
    """`labels`: of everything listed; `videos`: those that were decoded."""
    problems = []
    counts = Counter(video.label for video in videos)
    if lost := [label for label in labels if label not in counts]:
        problems.append(f"no file of {', '.join(lost)} is left")
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


def _overlap_problems(decoded: Sequence[Decoded]) -> list[str]:
    problems = []
    if groups := groups_in_several_splits(item.video for item in decoded):
        problems.append(f"{len(groups)} groups are in several splits, such as {sorted(groups)[0]}")
    labels: dict[tuple[str, float | None], dict[str, Path]] = defaultdict(dict)
    splits: dict[str, dict[Split | None, Path]] = defaultdict(dict)
    parts: dict[tuple[object, ...], list[Path]] = defaultdict(list)
    for item in decoded:
        video = item.video
        labels[item.sha256, video.start_seconds][video.label] = video.path
        splits[item.sha256][video.split] = video.path
        parts[item.sha256, video.start_seconds, video.end_seconds, video.label].append(video.path)
    if divided := [next(iter(found.values())) for found in splits.values() if len(found) > 1]:
        problems.append(f"{len(divided)} files have parts in several splits, such as {divided[0]}")
    if repeated := [paths[0] for paths in parts.values() if len(paths) > 1]:
        problems.append(f"{len(repeated)} files come more than once with the same part, such as {repeated[0]}")
    if conflicts := [
        " and ".join(f"{path} of {label}" for label, path in found.items())
        for found in labels.values()
        if len(found) > 1
    ]:
        problems.append(f"{len(conflicts)} files have several labels, such as {conflicts[0]}")
    return problems


def _shift_problems(decoded: Sequence[Decoded]) -> list[str]:
    """Where validation or test videos are unlike those of training, the figures measure something else."""
    problems = []
    medians = {(spread.fact, spread.split): spread.median for spread in spreads(decoded)}
    for fact in dict.fromkeys(fact for fact, _ in medians):
        train = medians.get((fact, "train"))
        for split in ("val", "test"):
            other = medians.get((fact, split))
            if train and other and max(train, other) > MAX_MEDIAN_RATIO * min(train, other):
                problems.append(f"the median {fact} is {train:g} in train and {other:g} in {split}")
    return problems


def _ordered(splits: Iterable[str]) -> list[str]:
    order = ("train", "val", "test", "all")
    return sorted(splits, key=order.index)
