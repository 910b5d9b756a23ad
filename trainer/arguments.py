"""The options that several commands share, and the types of what options take, for argparse."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from app.models.manifest import NAME_PATTERN
from trainer.recipe.reading import RECIPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.data.prepare import DataOptions
    from trainer.train import Training

DEFAULT_RECIPES = {
    "classify": RECIPES / "classify.yaml",
    "predict": RECIPES / "forecast.yaml",
    "features": RECIPES / "audio-features.yaml",
    "caption": RECIPES / "captions.yaml",
}
"""Of the tasks; those of classifiers of sound and of camera work must be named."""


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A type of whole numbers in [least, most]."""

    def number(text: str) -> int:
        found = int(text)
        if found < least or (most is not None and found > most):
            raise argparse.ArgumentTypeError(f"{found} is not at least {least}{f' and at most {most}' if most else ''}")
        return found

    return number


def model_name(text: str) -> str:
    """A name that a model can have."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text} is not a name: lower-case letters, digits and hyphens, at most 63")
    return text


def regex(text: str) -> str:
    """A regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text} is not a regular expression: {error}") from error
    return text


def fraction(text: str) -> float:
    """A number in [0, 1)."""
    found = float(text)
    if not 0 <= found < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return found


def add_data(parser: argparse.ArgumentParser) -> None:
    """Where data are, and how they are divided: for `data_options`."""
    parser.add_argument("--data", type=Path, required=True, help="a folder of a folder per class, or a CSV")
    parser.add_argument(
        "--group-pattern", type=regex, metavar="REGEX", help="what it captures in a path names the source video"
    )
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="where decoded videos are kept")
    parser.add_argument(
        "--decoders", type=whole_number(1), metavar="N", help="videos decoded at once (default: one per core)"
    )
    parser.add_argument("--val-fraction", type=fraction, default=0.15, help="share of groups, where no split is given")
    parser.add_argument("--test-fraction", type=fraction, default=0.0, help="share of groups, where no split is given")
    parser.add_argument("--test-data", type=Path, help="another folder or CSV, all of it for testing")


def data_options(options: argparse.Namespace) -> DataOptions:
    """What `add_data` was given."""
    from trainer.data.prepare import DataOptions  # with torch, which takes seconds

    return DataOptions(
        data=options.data,
        group_pattern=options.group_pattern,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        test_data=options.test_data,
        cache=options.cache,
        num_processes=options.decoders,
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Which recipe, and what replaces its settings."""
    defaults = ", ".join(f"{recipe.name} to {task}" for task, recipe in DEFAULT_RECIPES.items())
    parser.add_argument("--recipe", type=Path, help=f"YAML (default: {defaults})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="replaces a setting of the recipe"
    )


def add_training(parser: argparse.ArgumentParser) -> None:
    """What is trained, on what: for `training_options`."""
    parser.add_argument("task", choices=list(DEFAULT_RECIPES))
    parser.add_argument("--name", type=model_name, required=True, help="of the model: lower case, digits, hyphens")
    add_data(parser)
    add_recipe(parser)
    parser.add_argument("--cell", choices=["lstm", "gru"], default="gru")
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=0)
    parser.add_argument("--weights", type=Path, metavar="MODEL_PT", help="weights to start from, where shapes fit")
    parser.add_argument(
        "--teachers", type=Path, nargs="*", default=[], metavar="RUN", help="finished runs whose answers are learnt too"
    )
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu", "mps"])
    parser.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="torch threads per process (default: torch's own)"
    )
    parser.add_argument(
        "--loaders", type=whole_number(0), default=0, metavar="N", help="processes that draw generated clips"
    )
    parser.set_defaults(devices=1)


def training_options(options: argparse.Namespace) -> Training:
    """What `add_training` was given."""
    from trainer.train import Training
    from trainer.training import Machine

    return Training(
        task=options.task,
        name=options.name,
        data=data_options(options),
        recipe=options.recipe or DEFAULT_RECIPES[options.task],
        settings=tuple(options.set),
        cell=options.cell,
        seed=options.seed,
        weights=options.weights,
        teachers=tuple(options.teachers),
        machine=Machine(options.accelerator, options.devices, options.threads, options.loaders),
    )
