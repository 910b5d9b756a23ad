"""`python -m trainer`: look at labelled videos, train on them, publish what came out."""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from app.errors import ModelRejected
from app.models.manifest import TrainingData
from trainer.arguments import (
    DEFAULT_RECIPES,
    add_data,
    add_recipe,
    add_training,
    data_options,
    regex,
    training_options,
    whole_number,
)
from trainer.data.captions import read_msr_vtt, read_msvd, write_captions
from trainer.data.generators import MOTION_LABELS, write_motion
from trainer.data.index import parse_columns, read_index
from trainer.data.listing import Split, Video, list_files, read_listing, write_listing
from trainer.data.rows import InvalidListing
from trainer.data.workers import FULL
from trainer.progress import progress
from trainer.recipe.reading import RecipeError

# torch and Lightning take seconds to import: what needs them is imported where it is called.

MISTAKES = (
    InvalidListing,
    RecipeError,
    ModelRejected,
    ValidationError,
    OSError,
)
"""Mistakes that the person who typed the command can correct: told in one line, without a traceback."""

DEFAULT_STORE = Path("model_store")


def main(arguments: list[str]) -> None:
    """Runs one command; a mistake in what was asked ends it with one line and status 2."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    options.command = shlex.join(["python", "-m", "trainer", *arguments])
    try:
        if told := options.run(options):  # of several processes, only the first has something to say
            print(told)
    except ConnectionError:  # between processes: no mistake in what was asked
        raise
    except MISTAKES as error:
        advice = ""
        if isinstance(error, OSError) and error.errno in FULL:
            advice = ": make room, then give the command again; `train --resume` goes on with a run that was begun"
        parser.exit(2, f"{parser.prog}: {error}{advice}\n")
    except KeyboardInterrupt:
        parser.exit(128 + signal.SIGINT, f"\n{parser.prog}: stopped\n")


def build_parser() -> argparse.ArgumentParser:
    """Of all commands; what carries one out is its `run`."""
    parser = argparse.ArgumentParser("python -m trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_inspect(commands.add_parser("inspect", help="what a data set holds, and what is wrong with it"))
    _add_train(commands.add_parser("train", help="train, evaluate and publish"))
    _add_tune(commands.add_parser("tune", help="try settings of a recipe, and tell which are best in validation"))
    _add_evaluate(commands.add_parser("evaluate", help="a published model on labelled videos"))
    _add_publish(commands.add_parser("publish", help="a finished run into the model store"))
    _add_card(commands.add_parser("card", help="finished runs compared in a table"))
    _add_list(commands.add_parser("list", help="write a CSV of labelled videos with their groups and splits"))
    _add_captions(commands.add_parser("captions", help="write a CSV of described videos from MSVD or MSR-VTT"))
    _add_generate(commands.add_parser("generate", help="draw labelled videos"))
    return parser


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    add_recipe(parser)
    parser.add_argument("--output", type=Path, help="folder of the report (default: runs/inspect-<data>)")
    parser.set_defaults(run=_inspect)


def _add_train(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument("--output", type=Path, help="folder of the run (default: runs/<name>)")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument(
        "--patience", type=whole_number(0), default=0, metavar="EPOCHS", help="stop after so many without a better one"
    )
    parser.add_argument(
        "--devices", type=whole_number(1), metavar="N", help="GPUs, or processes on CPU (default: 1); for sound, only 1"
    )
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    parser.add_argument("--no-publish", action="store_true", help="leave the store as it is")
    parser.add_argument("--summary", help="one sentence for the list of models")
    parser.add_argument("--data-name", help="for the card (default: the name of the folder or CSV)")
    parser.add_argument("--data-license", default="not stated", help="for the card, SPDX or in words")
    parser.add_argument("--data-source", default="not stated", help="for the card, such as a URL")
    parser.set_defaults(run=_train)


def _add_tune(parser: argparse.ArgumentParser) -> None:
    add_training(parser)
    parser.add_argument(
        "--search",
        action="append",
        required=True,
        metavar="SECTION.KEY=RANGE",
        help="low..high, low..high:log or a,b,c; more than once for several at a time",
    )
    parser.add_argument("--trials", type=whole_number(1), default=20, metavar="N", help="in all (default: 20)")
    parser.add_argument("--output", type=Path, help="folder of the trials (default: runs/tune-<name>)")
    parser.set_defaults(run=_tune)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="NAME[@VERSION]")
    add_data(parser)
    parser.add_argument(
        "--split", choices=["train", "val", "test"], help="of the data, as `train` makes it (default: all of it)"
    )
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    parser.add_argument("--output", type=Path, help="folder for evaluation.json and predictions.csv")
    parser.set_defaults(run=_evaluate)


def _add_publish(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", dest="folder", type=Path, required=True, help="folder of a finished run")
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    parser.add_argument("--compare", type=Path, nargs="*", default=[], help="runs to compare it with in the card")
    parser.set_defaults(run=_publish)


def _add_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of finished runs")
    parser.set_defaults(run=_card)


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of a folder per class, or CSVs")
    parser.add_argument("--columns", nargs="+", default=[], metavar="OURS=THEIRS", help="for a CSV with other columns")
    parser.add_argument("--root", type=Path, help="with --columns: the folder that the CSV's paths are relative to")
    parser.add_argument("--unlabelled", action="store_true", help="take all files of a folder; labels do not matter")
    parser.add_argument("--under", default="", help="only rows of the CSV whose path begins with this")
    parser.add_argument(
        "--group-pattern", type=regex, metavar="REGEX", help="what it captures in a path names the source video"
    )
    parser.add_argument("--val-pattern", type=regex, metavar="REGEX", help="paths below the data that match become val")
    parser.add_argument(
        "--test-pattern", type=regex, metavar="REGEX", help="paths below the data that match become test"
    )
    parser.add_argument("--output", type=Path, required=True, help="the CSV to write")
    parser.set_defaults(run=_list)


def _add_captions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("layout", choices=["msvd", "msr-vtt"])
    parser.add_argument("--data", type=Path, required=True, help="AllVideoDescriptions.txt, or MSR-VTT's JSON")
    parser.add_argument("--videos", type=Path, required=True, help="the folder of clips")
    parser.add_argument("--output", type=Path, required=True, help="the CSV to write")
    parser.set_defaults(run=_captions)


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=["motion"])
    parser.add_argument("--output", type=Path, required=True, help="a new folder, or one to go on with")
    parser.add_argument("--count", type=whole_number(1), default=100, help="videos of each label")
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.set_defaults(run=_generate)


def _inspect(options: argparse.Namespace) -> str:
    from trainer.inspection import inspect_data

    output = options.output or Path("runs") / f"inspect-{_name(options.data)}"
    return inspect_data(data_options(options), options.recipe or DEFAULT_RECIPES["classify"], options.set, output)


def _name(data: Path) -> str:
    """Of a folder, with its dots; of a file, without its ending."""
    found = data.resolve()  # `.` has no name
    return found.name if found.is_dir() else found.stem


def _train(options: argparse.Namespace) -> str:
    from trainer.train import TrainOptions, train

    return train(
        TrainOptions(
            training=training_options(options),
            output=options.output,
            resume=options.resume,
            patience=options.patience,
            summary=options.summary,
            training_data=TrainingData(
                name=options.data_name or _name(options.data), license=options.data_license, source=options.data_source
            ),
            store=None if options.no_publish else options.store,
            command=options.command,
        )
    )


def _tune(options: argparse.Namespace) -> str:
    from trainer.recipe.search import parse_search
    from trainer.tune import TuneOptions, tune

    searched = tuple(parse_search(text) for text in options.search)
    folder = options.output or Path("runs") / f"tune-{options.name}"
    return tune(TuneOptions(training_options(options), searched, options.trials, folder))


def _evaluate(options: argparse.Namespace) -> str:
    from trainer.evaluate import evaluate

    name, _, version = options.model.partition("@")
    return evaluate(options.store, name, version or None, data_options(options), options.split, options.output)


def _publish(options: argparse.Namespace) -> str:
    from trainer.publish import publish

    return str(publish(options.folder, options.store, options.compare))


def _card(options: argparse.Namespace) -> str:
    from trainer.card import comparison
    from trainer.run import read_run

    return comparison([read_run(folder) for folder in options.runs])


def _list(options: argparse.Namespace) -> str:
    videos = [
        video for data in options.data for video in _marked(_listed(data, options), _folder(data, options), options)
    ]
    write_listing(videos, options.output)
    return f"{len(videos)} videos in {options.output}"


def _marked(videos: list[Video], folder: Path, options: argparse.Namespace) -> list[Video]:
    """With the splits that the patterns give: found in the path below `folder`, wherever that lies."""
    patterns: dict[Split, str | None] = {"val": options.val_pattern, "test": options.test_pattern}
    for split, pattern in patterns.items():
        if pattern:
            found = re.compile(pattern)
            videos = [replace(v, split=split) if found.search(_below(v.path, folder)) else v for v in videos]
    return videos


def _below(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _folder(data: Path, options: argparse.Namespace) -> Path:
    """That the paths of the data are relative to."""
    if options.columns and options.root:
        return Path(options.root)
    return data if data.is_dir() else data.parent


def _listed(data: Path, options: argparse.Namespace) -> list[Video]:
    if (options.columns and (options.group_pattern or options.under)) or (options.unlabelled and options.under):
        raise InvalidListing("--under works with CSVs without --columns, --group-pattern with those and with folders")
    if options.columns:
        return read_index(data, _folder(data, options), parse_columns(options.columns))
    if options.unlabelled and data.is_dir():
        return list_files(data, options.group_pattern)
    return read_listing(data, options.group_pattern, options.under, extra_columns=True)


def _captions(options: argparse.Namespace) -> str:
    found = {"msvd": read_msvd, "msr-vtt": read_msr_vtt}[options.layout](options.data, options.videos)
    write_captions(found, options.output)
    return f"{sum(len(one.captions) for one in found)} captions of {len(found)} videos in {options.output}"


def _generate(options: argparse.Namespace) -> str:
    total = options.count * len(MOTION_LABELS)
    paths = list(progress(write_motion(options.output, options.count, options.seed), total, "drawing"))
    return f"{len(paths)} videos in {options.output}"


if __name__ == "__main__":
    main(sys.argv[1:])
