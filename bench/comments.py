"""How right a describer's comments on generated scenes are, fact by fact, using the file that is served.

python -m bench.comments --data DATA.csv --split test [--count 300] [--model describe]
"""

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from app.models import torchscript
from app.models.manifest import CaptionOutput
from app.models.store import list_versions, load_version
from bench.videos import add_options, chosen
from trainer.data.described_scenes import DESCRIBED_STYLE
from trainer.data.filmed_scenes import SceneReader, film_scenes
from trainer.data.prepare import DataOptions, decode_data
from trainer.data.shots import Still
from trainer.data.stills import still_spec, stills_of
from trainer.data.words import Tokens
from trainer.plans.describe import SEEDS, Described, describe_scenes, report
from trainer.recipe.caption import DescribeRecipe
from trainer.recipe.reading import RECIPES, read_recipe
from trainer.tasks.scene_comments import certain


class PublishedReader(SceneReader):
    """Reads pictures through the steps in a published describer, whose camera may differ from the recipe's of today."""

    def __init__(self, model: Path) -> None:
        """`model`: the describer's `model.pt`."""
        content = model.read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        self._steps = torchscript.load_as_saved(content).eval().steps
        self.camera = self._steps.camera


def describe(folder: Path, stills: Sequence[Still], count: int, seed: int, cache: Path) -> Described:
    """The comments of the version in `folder` on those of `count` scenes, made of `stills`, that leave no doubt."""
    model, style = load_version(folder), DESCRIBED_STYLE
    output = model.manifest.output
    assert isinstance(output, CaptionOutput)
    filmed = film_scenes(stills, count, style, seed, PublishedReader(folder / "model.pt"), cache)
    tokens = Tokens(output.vocabulary)
    return describe_scenes(model.module, certain(filmed, style.rate), tokens, output.max_length, style.rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--count", type=int, default=300, help="scenes, of 3 to 8 s")
    parser.add_argument("--model", default="describe")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"))
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    options = parser.parse_args()
    folder = options.model_store / options.model / list_versions(options.model_store, options.model)[-1]

    recipe = read_recipe(RECIPES / "describe.yaml", (), DescribeRecipe)
    spec = still_spec(recipe.stills.width, recipe.stills.height, recipe.stills.per_video)
    data = decode_data(chosen(options, parts=True), spec, DataOptions(options.data, cache=options.cache))
    stills = stills_of(data, options.split)
    described = describe(folder, stills, options.count, SEEDS[options.split], options.cache)
    print(f"{len(described)} scenes\n\n{report({options.split: described}).text}")


if __name__ == "__main__":
    main()
