"""Accuracy of a served model on labelled videos, through the running service, beside the trainer's own figure.

python -m bench.accuracy --model actions --data DATA.csv --split test [--predictions predictions.csv]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from bench.service import Service, running_service
from bench.videos import add_options, chosen, part_of
from trainer.data.listing import Video

Answer = tuple[str, float]
"""The best label and its score."""


def answers(service: Service, model: str, videos: list[Video]) -> list[Answer]:
    """The service's answer for each video."""
    best = [
        service.classify(video.path, model=model, top_k=1, **part_of(video))["results"][0]["labels"][0]
        for video in videos
    ]
    return [(label["label"], label["score"]) for label in best]


def read_predictions(path: Path, videos: list[Video]) -> list[Answer]:
    """The trainer's answer for each video. Raises ValueError if it judged a different number of parts of a file.

    `path` names files, not their parts; the parts of a file are in the order of the data.
    """
    by_file: dict[Path, list[Answer]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_file[Path(row["path"]).resolve()].append((row["answer"], float(row[row["answer"]])))
    files = [video.path.resolve() for video in videos]
    for name in set(files):
        if len(by_file[name]) != files.count(name):
            raise ValueError(f"{name}: {files.count(name)} to compare, {len(by_file[name])} in {path}")
    return [by_file[name].pop(0) for name in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    add_options(parser)
    parser.add_argument("--predictions", type=Path, help="predictions.csv of `python -m trainer evaluate`")
    options = parser.parse_args()
    videos = chosen(options, parts=True)
    with running_service(models=options.model) as service:
        found = answers(service, options.model, videos)
    right = sum(label == video.label for (label, _), video in zip(found, videos, strict=True))
    print(f"accuracy through the service: {right} of {len(videos)} = {right / len(videos):.4f}")
    if options.predictions:
        pairs = list(zip(found, read_predictions(options.predictions, videos), strict=True))
        other = [str(video.path) for video, (ours, its) in zip(videos, pairs, strict=True) if ours[0] != its[0]]
        largest = max(abs(ours[1] - its[1]) for ours, its in pairs)
        print(f"answers that differ from the trainer's: {len(other)} {other}")
        print(f"largest difference of a best label's score: {largest:.2g}")


if __name__ == "__main__":
    main()
