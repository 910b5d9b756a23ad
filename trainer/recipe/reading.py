"""Reads recipes from YAML files and `--set section.key=value`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainer.recipe.sections import Recipe

RECIPES = Path(__file__).parents[1] / "recipes"

R = TypeVar("R", bound=Recipe)


class RecipeError(ValueError):
    """A recipe or an override that cannot be read, in words for the person who wrote it."""


def read_recipe(path: Path, overrides: Sequence[str], kind: type[R]) -> R:
    """The recipe at `path`, changed by overrides such as `optimisation.learning_rate=1e-3`, the value read as YAML.

    Raises RecipeError, or OSError where the file cannot be read.
    """
    content = read_content(path)
    for override in overrides:
        _set(content, override)
    try:
        # In YAML 1.1 a number needs a dot: 1e-3 arrives as a string, which pydantic turns into a float.
        return kind.model_validate(content)
    except ValidationError as error:
        raise RecipeError("\n".join(f"{path.name}: {_told(one, kind)}" for one in error.errors())) from error


def read_content(path: Path) -> dict[str, object]:
    """The sections of a recipe, not yet checked. Raises RecipeError or OSError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path.name} is not UTF-8: {error.reason} at byte {error.start}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path.name} is not a table of sections")
    return content


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML, complete."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, default_flow_style=None)
    return text


def _told(mistake: ErrorDetails, kind: type[Recipe]) -> str:
    """One mistake: where it is, and what is wrong; for a key that does not exist, which there are."""
    *sections, key = mistake["loc"]
    where = ".".join(map(str, mistake["loc"]))
    if mistake["type"] != "extra_forbidden":
        return f"{where}: {mistake['msg'].removeprefix('Value error, ')}"
    section: Any = kind
    for name in sections:
        section = section.model_fields[name].annotation
    return f"{where}: there is no {key}, but {', '.join(section.model_fields)}"


def _set(content: dict[str, object], override: str) -> None:
    """Puts `section.key=value` into the content, in place. The Recipe decides later whether the key may exist."""
    target, equals, value = override.partition("=")
    section, dot, key = target.strip().partition(".")
    if not (equals and dot and key):
        raise RecipeError(f"{override} is not of the form section.key=value")
    table = content.setdefault(section, {})
    if not isinstance(table, dict):
        raise RecipeError(f"{section} is not a section")
    try:
        table[key] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"{override}: the value is not YAML") from error
