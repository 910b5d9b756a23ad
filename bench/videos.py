"""The labelled videos a measurement is made on."""

import argparse
from pathlib import Path

from trainer.data.listing import Video, read_listing


def add_options(parser: argparse.ArgumentParser) -> None:
    """--data, --split and --under."""
    parser.add_argument("--data", type=Path, required=True, help="a folder of a folder per class, or a CSV")
    parser.add_argument("--split", default="test")
    parser.add_argument("--under", default="", help="only rows of the CSV whose path begins so")


def chosen(options: argparse.Namespace, *, parts: bool = False) -> list[Video]:
    """The videos that the options of `add_options` choose. Without `parts`, none of them may be a part of a file."""
    listed = read_listing(options.data, under=options.under, extra_columns=True)
    videos = [video for video in listed if video.split == options.split]
    if not parts and any(part_of(video) for video in videos):
        raise SystemExit(f"{options.data} has parts of files, and only whole ones are measured here")
    return videos


def part_of(video: Video) -> dict[str, float]:
    """The part of its file that a video is, as `POST /classify` takes it."""
    part = {"start_seconds": video.start_seconds, "end_seconds": video.end_seconds}
    return {name: seconds for name, seconds in part.items() if seconds is not None}
