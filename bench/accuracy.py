"""Accuracy of a served model on labelled videos, through the running service, beside the trainer's own figure.

python -m bench.accuracy --model actions --data DATA.csv --split test [--predictions predictions.csv]
"""

import argparse
import csv
from pathlib import Path

from bench.service import Service, running_service
from bench.videos import add_options, chosen
from trainer.data.listing import Video


def answers(service: Service, model: str, videos: list[Video]) -> dict[Path, tuple[str, float]]:
    """Label and score of each video, as the service gives them."""
    found = {}
    for video in videos:
        query = {"model": model, "top_k": 1}
        if video.start_seconds is not None:
            query["start_seconds"] = video.start_seconds
        if video.end_seconds is not None:
            query["end_seconds"] = video.end_seconds
        best = service.classify(video.path, **query)["results"][0]["labels"][0]
        found[video.path] = (best["label"], best["score"])
    return found


def read_predictions(path: Path) -> dict[str, tuple[str, float]]:
    """What the trainer's evaluation answered, by file name."""
    with path.open(newline="", encoding="utf-8") as file:
        return {Path(row["path"]).name: (row["answer"], float(row[row["answer"]])) for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    add_options(parser)
    parser.add_argument("--predictions", type=Path, help="predictions.csv of `python -m trainer evaluate`")
    options = parser.parse_args()
    videos = chosen(options)
    with running_service(models=options.model) as service:
        found = answers(service, options.model, videos)
    right = sum(found[video.path][0] == video.label for video in videos)
    print(f"accuracy through the service: {right} of {len(videos)} = {right / len(videos):.4f}")
    if options.predictions:
        trainer = read_predictions(options.predictions)
        other = [video.path.name for video in videos if trainer[video.path.name][0] != found[video.path][0]]
        largest = max(abs(trainer[video.path.name][1] - found[video.path][1]) for video in videos)
        print(f"answers that differ from the trainer's: {len(other)} {other}")
        print(f"largest difference of a best label's score: {largest:.2g}")


if __name__ == "__main__":
    main()
