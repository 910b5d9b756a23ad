"""Trains a classifier anew for each part of the data, without that part, and tests it on that part.

python -m bench.cross_validation --data fsdd.csv --by '_(.+)_' --recipe trainer/recipes/digits.yaml
python -m bench.cross_validation --data fight.csv --by '(\\d+)' --folds 5 --alarm fight

A part is what the pattern captures in a file's name (a speaker, say); the default is the group. --folds makes that
many blocks of neighbouring parts, for numbered clips whose neighbours may come from one source. It prints the accuracy
on each part and on all together. Runs that exist and were asked for in the same way are not repeated; stopped ones go
on.
"""

import argparse
import csv
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.models.manifest import Task
from trainer.begun import BEGUN, read_begun
from trainer.data.listing import Split, Video, read_listing, write_listing
from trainer.run import RESULT, Run, read_run
from trainer.tables import percent, table

RECALL = 0.95
"""Recall at which false alarms are counted."""
WILSON_Z = 1.96
"""Standard deviations of 95 % intervals."""


def parts(videos: Sequence[Video], pattern: str | None, num_folds: int | None) -> dict[str, list[Video]]:
    """The videos of each part, by its name, in order. Raises ValueError for a file that the pattern is not found in."""
    by_value: dict[str, list[Video]] = {}
    for video in videos:
        by_value.setdefault(_value(video, pattern), []).append(video)
    values = sorted(by_value, key=_in_order)
    if num_folds is None:
        return {value: by_value[value] for value in values}
    blocks = [block.tolist() for block in np.array_split(np.array(values), num_folds) if len(block)]
    return {f"{block[0]}-{block[-1]}": [video for value in block for video in by_value[value]] for block in blocks}


def _in_order(value: str) -> list[str | int]:
    """A key that sorts fi2 before fi10: text and numbers in turn."""
    return [int(piece) if place % 2 else piece for place, piece in enumerate(re.split(r"(\d+)", value))]


def _value(video: Video, pattern: str | None) -> str:
    if pattern is None:
        return video.group
    match = re.search(pattern, video.path.stem)
    if match is None:
        raise ValueError(f"{pattern!r} is not found in {video.path.name!r}")
    return match.group(1)


def train_without(
    task: Task, left_out: Sequence[Video], videos: Sequence[Video], folder: Path, arguments: Sequence[str]
) -> Run:
    """The run in `folder`, whose name is a number. It trains on all `videos` but those left out, its test set.

    Raises ValueError for a run that exists and was asked for with other videos or arguments.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    data = folder.parent / f"without-{folder.name}.csv"
    paths = {video.path for video in left_out}
    splits: dict[bool, Split] = {True: "test", False: "train"}
    written = data.with_suffix(".part")
    write_listing([replace(video, split=splits[video.path in paths]) for video in videos], written)
    listing = written.read_bytes()
    written.unlink()
    command = ["-m", "trainer", "train", task, "--name", f"without-{folder.name}", "--no-publish"]
    command += ["--data", str(data), "--output", str(folder), "--accelerator", "cpu", "--threads", "1", *arguments]
    is_begun = (folder / BEGUN).exists()
    if is_begun or (folder / RESULT).exists():
        before = read_begun(folder).command if is_begun else read_run(folder).command
        if before != shlex.join(["python", *command]) or listing != data.read_bytes():
            raise ValueError(f"{folder} was made of other videos, or by\n{before}\nanother --runs is needed")
    if not (folder / RESULT).exists():
        data.write_bytes(listing)
        going_on = ["--resume"] if is_begun else []
        subprocess.run([sys.executable, *command, *going_on], check=True, stdout=subprocess.DEVNULL)
    return read_run(folder)


def interval(num_right: int, num_examples: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score, which takes the examples to be independent."""
    share, z = num_right / num_examples, WILSON_Z
    middle = share + z**2 / (2 * num_examples)
    half = z * math.sqrt(share * (1 - share) / num_examples + (z / (2 * num_examples)) ** 2)
    scale = 1 + z**2 / num_examples
    return (middle - half) / scale, (middle + half) / scale


def false_alarms(rows: Sequence[Mapping[str, str]], label: str) -> float:
    """The share of other labels' examples that are called `label` at the threshold that finds RECALL of its own."""
    own = sorted((float(row[label]) for row in rows if row["label"] == label), reverse=True)
    others = [float(row[label]) for row in rows if row["label"] != label]
    threshold = own[math.ceil(RECALL * len(own)) - 1]
    return sum(score >= threshold for score in others) / len(others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a CSV; its split is not looked at")
    parser.add_argument("--also", type=Path, metavar="CSV", help="what each training has besides, never left out")
    parser.add_argument("--by", metavar="REGEX", help="what it captures in a file's name is left out together")
    parser.add_argument("--folds", type=int, help="blocks of what --by captures (default: each alone)")
    parser.add_argument("--alarm", metavar="LABEL", help="also its false alarms where 95 %% of it are found")
    parser.add_argument("--recipe", type=Path, default=Path("trainer/recipes/classify.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="instead of its own")
    parser.add_argument("--weights", type=Path, metavar="MODEL_PT", help="what each training starts from")
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--runs", type=Path, help="(default: runs/cross-validation-<data>)")
    options = parser.parse_args()
    videos = read_listing(options.data)
    also = read_listing(options.also) if options.also else []
    arguments = ["--recipe", str(options.recipe), "--cell", options.cell, "--seed", options.seed]
    arguments += ["--cache", str(options.cache), "--val-fraction", "0"]
    arguments += [part for setting in options.set for part in ("--set", setting)]
    if options.weights:
        arguments += ["--weights", str(options.weights)]
    runs = options.runs or Path("runs") / f"cross-validation-{options.data.stem}"

    told, judged = [["without", "examples", "right"]], []
    # Numbered, since what is captured need not be a valid name of a model or a folder.
    for number, (name, left_out) in enumerate(parts(videos, options.by, options.folds).items(), 1):
        folder = runs / str(number)
        train_without("classify", left_out, [*videos, *also], folder, arguments)
        with (folder / "predictions_test.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        judged += rows
        told.append([name, str(len(rows)), percent(_num_right(rows) / len(rows))])
        print(f"{number}, without {name}: {told[-1][2]}", flush=True)
    low, high = interval(_num_right(judged), len(judged))
    told.append(["all", str(len(judged)), percent(_num_right(judged) / len(judged))])
    print(table(told))
    print(f"95 % interval, examples taken for independent: {percent(low)} to {percent(high)}")
    if options.alarm:
        print(f"false alarms where 95 % of {options.alarm} are found: {percent(false_alarms(judged, options.alarm))}")


def _num_right(rows: Sequence[Mapping[str, str]]) -> int:
    return sum(row["label"] == row["answer"] for row in rows)


if __name__ == "__main__":
    main()
