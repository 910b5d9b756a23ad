"""What a describer says of generated scenes, fact by fact, through the file that is served.

python -m bench.comments --data DATA.csv --split test [--count 300] [--model describe]
"""

import argparse
from pathlib import Path

from app.models.manifest import CaptionOutput
from app.models.store import list_versions, load_version
from bench.videos import add_options, chosen
from trainer.data.described_scenes import DESCRIBED_STYLE
from trainer.data.filmed_scenes import SceneReader, film_scenes
from trainer.data.prepare import DataOptions, decode_data
from trainer.data.stills import still_spec, stills_of
from trainer.data.words import Tokens
from trainer.plans.describe import SEEDS, describe_scenes, report
from trainer.recipe.caption import DescribeRecipe
from trainer.recipe.reading import RECIPES, read_recipe
from trainer.tasks.scene_comments import certain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--count", type=int, default=300, help="scenes, of 3 to 8 s")
    parser.add_argument("--model", default="describe")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"))
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    options = parser.parse_args()
    model = load_version(options.model_store / options.model / list_versions(options.model_store, options.model)[-1])
    output = model.manifest.output
    assert isinstance(output, CaptionOutput)

    recipe, style = read_recipe(RECIPES / "describe.yaml", (), DescribeRecipe), DESCRIBED_STYLE
    spec = still_spec(recipe.stills.width, recipe.stills.height, recipe.stills.per_video)
    data = decode_data(chosen(options), spec, DataOptions(options.data, cache=options.cache))
    reader = SceneReader(recipe.input.camera)
    stills = stills_of(data, options.split)
    scenes = certain(film_scenes(stills, options.count, style, SEEDS[options.split], reader, options.cache), style.rate)
    tokens = Tokens(output.vocabulary)
    described = describe_scenes(model.module, scenes, tokens, output.max_length, style.rate)
    print(f"{len(scenes)} scenes\n\n{report({options.split: described}).text}")


if __name__ == "__main__":
    main()
