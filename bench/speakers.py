"""FSDD's speakers left out in turn: what is trained on five voices, judged on the sixth.

python -m bench.speakers --data fsdd.csv

trains `digits` six times, as `python -m trainer` does, and prints the accuracy on each speaker and their mean. A run
that is there already is not trained again.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from app.models.manifest import Task
from trainer.data.listing import Split, Video, read_listing, write_listing
from trainer.run import Run, read_run
from trainer.tables import percent, table


def speaker_of(video: Video) -> str:
    """3_theo_12.wav -> theo; of other data sets, the group."""
    parts = video.path.stem.split("_")
    return parts[1] if len(parts) == 3 and parts[0].isdigit() and parts[2].isdigit() else video.group


def speakers_of(videos: Sequence[Video]) -> list[str]:
    """In order of the alphabet."""
    return sorted({speaker_of(video) for video in videos})


def train_without(task: Task, speaker: str, videos: Sequence[Video], folder: Path, arguments: Sequence[str]) -> Run:
    """The run in `folder`: on all `videos` but the speaker's, which are its test set."""
    if not (folder / "result.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        data = folder.parent / f"without-{speaker}.csv"
        splits: dict[bool, Split] = {True: "test", False: "train"}
        write_listing([replace(video, split=splits[speaker_of(video) == speaker]) for video in videos], data)
        command = [sys.executable, "-m", "trainer", "train", task, "--name", f"without-{speaker}", "--no-publish"]
        command += ["--data", str(data), "--output", str(folder), "--accelerator", "cpu", "--threads", "1", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read_run(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CSV of FSDD; its split is not looked at")
    parser.add_argument("--recipe", type=Path, default=Path("trainer/recipes/digits.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="instead of its own")
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--runs", type=Path, default=Path("runs/digits-speakers"))
    options = parser.parse_args()
    videos = read_listing(options.data)
    arguments = ["--recipe", str(options.recipe), "--cell", options.cell, "--cache", str(options.cache)]
    arguments += ["--val-fraction", "0", *(part for setting in options.set for part in ("--set", setting))]
    accuracies = {}
    for speaker in speakers_of(videos):
        run = train_without("classify", speaker, videos, options.runs / speaker, arguments)
        accuracies[speaker] = run.metrics["test"]["accuracy"]
        print(f"without {speaker}: {percent(accuracies[speaker])}", flush=True)
    mean = sum(accuracies.values()) / len(accuracies)
    print(table([[*accuracies, "mean"], [percent(accuracy) for accuracy in (*accuracies.values(), mean)]]))


if __name__ == "__main__":
    main()
