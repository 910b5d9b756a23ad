"""`inspect`: a data set before it is trained on."""

from collections.abc import Sequence
from pathlib import Path

from trainer.data.cache import open_video
from trainer.data.checks import Decoded, count_table, find_problems, spreads
from trainer.data.contact_sheet import draw_contact_sheet
from trainer.data.decode import CacheSpec, stream_spec
from trainer.data.prepare import DataOptions, cache_spec, decode_data, list_videos
from trainer.data.rows import InvalidListing
from trainer.data.sounds import decode_sounds
from trainer.data.splits import split_by_group
from trainer.recipe.classify import ClassifyRecipe
from trainer.recipe.flow import FlowRecipe
from trainer.recipe.listen import ListenRecipe
from trainer.recipe.reading import RecipeError, read_content, read_recipe
from trainer.tables import table

LabelledRecipe = ClassifyRecipe | FlowRecipe | ListenRecipe
UNLABELLED = frozenset({"scenes", "side", "part_seconds", "writing"})
"""Sections and inputs of recipes that learn without labels."""


def inspect_data(options: DataOptions, path: Path, overrides: Sequence[str], output: Path) -> str:
    """A report in Markdown, also in `output`; of video, beside a contact sheet.

    `path` and `overrides` are the recipe's. Raises InvalidListing, and RecipeError for one that wants no labels.
    """
    recipe = _read_recipe(path, overrides)
    videos = list_videos(options)
    remark = ""
    try:
        videos = split_by_group(videos, options.val_fraction, options.test_fraction)
    except InvalidListing as error:
        remark = f"\n\nIt cannot be divided: {error}"
    decoded: Sequence[Decoded]
    if isinstance(recipe, ListenRecipe):
        sounds = decode_sounds(videos, recipe.input.sample_rate, options.cache, options.num_processes)
        sounds.tell_broken()
        if not sounds.decoded:
            raise InvalidListing(f"none of the {len(videos)} files has sound")
        decoded, broken = sounds.decoded, sounds.broken
        output.mkdir(parents=True, exist_ok=True)
    else:
        data = decode_data(videos, _cache_spec(recipe), options)
        decoded, broken = data.decoded, data.broken
        output.mkdir(parents=True, exist_ok=True)
        draw_contact_sheet(
            [open_video(item, data.labels) for item in data.decoded], data.labels, output / "contact_sheet.png"
        )
    facts = [[row.fact, row.split, f"{row.low:g}", f"{row.median:g}", f"{row.high:g}"] for row in spreads(decoded)]
    problems = find_problems(videos, decoded, broken)
    report = "\n\n".join(
        [
            f"# {options.data.resolve().name}",
            table(count_table([item.video for item in decoded])) + remark,
            table([["fact", "split", "smallest", "median", "largest"], *facts]),
            "\n".join(f"- left out: {item.video.path}: {item.reason}" for item in broken) or "No broken files.",
            "\n".join(f"- {problem}" for problem in problems) or "Nothing suspicious found.",
        ]
    )
    (output / "report.md").write_text(report + "\n", encoding="utf-8")
    return f"{report}\n\n{output}"


def _read_recipe(path: Path, overrides: Sequence[str]) -> LabelledRecipe:
    content = read_content(path)
    given = content.get("input")
    given = given if isinstance(given, dict) else {}
    if UNLABELLED & {*content, *given}:
        raise RecipeError(f"inspect needs the recipe of a classifier of videos or sounds, which {path.name} is not")
    if given.get("media") == "audio":
        return read_recipe(path, overrides, ListenRecipe)
    if given.get("sees") == "flow":
        return read_recipe(path, overrides, FlowRecipe)
    return read_recipe(path, overrides, ClassifyRecipe)


def _cache_spec(recipe: ClassifyRecipe | FlowRecipe) -> CacheSpec:
    if isinstance(recipe, ClassifyRecipe):
        return cache_spec(recipe)
    wanted = recipe.input
    return stream_spec(wanted.width, wanted.height, wanted.fit, wanted.rate)
