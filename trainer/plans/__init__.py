"""One plan per kind of network, which turns a recipe and data into all that a training needs."""

from collections.abc import Sequence
from pathlib import Path

from app.models.manifest import Task
from trainer.plan import Plan, PlanOptions
from trainer.plans.camera import plan_camera
from trainer.plans.caption import plan_caption
from trainer.plans.classify import plan_classify
from trainer.plans.describe import plan_describe
from trainer.plans.features import plan_features
from trainer.plans.flow import plan_flow
from trainer.plans.listen import plan_listen
from trainer.plans.predict import plan_predict
from trainer.recipe.camera import CameraRecipe
from trainer.recipe.caption import CaptionRecipe, DescribeRecipe
from trainer.recipe.classify import ClassifyRecipe
from trainer.recipe.features import FeaturesRecipe
from trainer.recipe.flow import FlowRecipe
from trainer.recipe.listen import ListenRecipe
from trainer.recipe.predict import PredictRecipe
from trainer.recipe.reading import RecipeError, read_content, read_recipe
from trainer.recipe.sections import Recipe


def plan_training(task: Task, path: Path, overrides: Sequence[str], options: PlanOptions) -> tuple[Recipe, Plan]:
    """The recipe at `path` for `task`, and its training on the data. Raises RecipeError, InvalidListing."""
    recipe = read_for(task, path, overrides)
    if options.teachers and not isinstance(recipe, ClassifyRecipe | ListenRecipe):
        raise RecipeError("--teachers is for classifiers of labelled videos or sounds, and not for those that see flow")
    return recipe, _plan(recipe, options)


def read_for(task: Task, path: Path, overrides: Sequence[str]) -> Recipe:
    """The recipe at `path` for `task`, changed by overrides. Raises RecipeError, OSError."""
    return read_recipe(path, overrides, _kind(task, path))


def _kind(task: Task, path: Path) -> type[Recipe]:
    given = read_content(path).get("input")
    given = given if isinstance(given, dict) else {}
    if task == "predict":
        return PredictRecipe
    if task == "features":
        return FeaturesRecipe
    if task == "caption":
        return DescribeRecipe if given.get("scenes") == "described" else CaptionRecipe
    if given.get("media") == "audio":
        return ListenRecipe
    if given.get("scenes") == "camera":
        return CameraRecipe
    return FlowRecipe if given.get("sees") == "flow" else ClassifyRecipe


def _plan(recipe: Recipe, options: PlanOptions) -> Plan:
    match recipe:
        case PredictRecipe():
            return plan_predict(recipe, options)
        case FeaturesRecipe():
            return plan_features(recipe, options)
        case DescribeRecipe():
            return plan_describe(recipe, options)
        case CaptionRecipe():
            return plan_caption(recipe, options)
        case ListenRecipe():
            return plan_listen(recipe, options)
        case CameraRecipe():
            return plan_camera(recipe, options)
        case FlowRecipe():
            return plan_flow(recipe, options)
        case ClassifyRecipe():
            return plan_classify(recipe, options)
    raise TypeError(type(recipe))
