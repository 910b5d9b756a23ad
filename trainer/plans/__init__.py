"""One plan per kind of network: from a recipe and data to what a training needs."""

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
    """The recipe at `path` for `task`, and the training it makes of the data. Raises RecipeError, InvalidListing."""
    given = _input(path)
    if options.teachers and (task != "classify" or given.keys() & {"scenes", "sees"}):
        raise RecipeError("only classifiers of labelled videos or sounds learn from teachers, and none that sees flow")
    if task == "predict":
        wanted = read_recipe(path, overrides, PredictRecipe)
        return wanted, plan_predict(wanted, options)
    if task == "features":
        described = read_recipe(path, overrides, FeaturesRecipe)
        return described, plan_features(described, options)
    if task == "caption" and given.get("scenes") == "described":
        told = read_recipe(path, overrides, DescribeRecipe)
        return told, plan_describe(told, options)
    if task == "caption":
        captioned = read_recipe(path, overrides, CaptionRecipe)
        return captioned, plan_caption(captioned, options)
    if given.get("media") == "audio":
        heard = read_recipe(path, overrides, ListenRecipe)
        return heard, plan_listen(heard, options)
    if given.get("scenes") == "camera":
        filmed = read_recipe(path, overrides, CameraRecipe)
        return filmed, plan_camera(filmed, options)
    if given.get("sees") == "flow":
        moving = read_recipe(path, overrides, FlowRecipe)
        return moving, plan_flow(moving, options)
    recipe = read_recipe(path, overrides, ClassifyRecipe)
    return recipe, plan_classify(recipe, options)


def _input(path: Path) -> dict[str, object]:
    """The recipe's input, which says what kind of classifier it makes."""
    given = read_content(path).get("input")
    return given if isinstance(given, dict) else {}
