"""From videos to a published describer, on a few scenes; and what a training learns from."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from app.models.manifest import SPECIAL_WORDS, CaptionOutput
from app.models.store import load_version
from trainer.__main__ import main
from trainer.data.described_scenes import DESCRIBED_STYLE
from trainer.data.filmed_scenes import FilmedScene, SceneReader, film_scenes, write_reel
from trainer.data.sentences import to_facts, vocabulary
from trainer.data.words import Tokens
from trainer.recipe.caption import DescribeRecipe
from trainer.recipe.reading import RECIPES, RecipeError, read_recipe
from trainer.tasks.scene_comments import UNSCORED, SceneComments, Shares, collate

RATE = DESCRIBED_STYLE.rate
CAMERA = read_recipe(RECIPES / "describe.yaml", (), DescribeRecipe).input.camera


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reels")


@pytest.fixture(scope="module")
def filmed(cache: Path) -> list[FilmedScene]:
    return film_scenes([], 5, DESCRIBED_STYLE, 1, SceneReader(CAMERA), cache)


def test_scenes_are_filmed_once(filmed: list[FilmedScene], cache: Path) -> None:
    (reel,) = cache.iterdir()
    written = reel.stat().st_mtime_ns
    again = film_scenes([], 5, DESCRIBED_STYLE, 1, SceneReader(CAMERA), cache)
    assert reel.stat().st_mtime_ns == written
    for one, other in zip(filmed, again, strict=True):
        np.testing.assert_array_equal(one.steps, other.steps)
        np.testing.assert_array_equal(one.script.holds, other.script.holds)
        assert len(one.steps) == len(one.script.light)


def test_several_processes_film_the_same(filmed: list[FilmedScene], tmp_path: Path) -> None:
    reader = SceneReader(CAMERA)
    together = film_scenes([], 5, DESCRIBED_STYLE, 1, reader, tmp_path, num_processes=2)
    for one, other in zip(filmed, together, strict=True):
        np.testing.assert_array_equal(one.steps, other.steps)
        np.testing.assert_array_equal(one.script.shots, other.script.shots)


def write_often(reel: Path, filmed: list[FilmedScene]) -> None:
    for _ in range(40):
        write_reel(reel, filmed)


def test_two_may_film_the_same_at_once(filmed: list[FilmedScene], tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as others:
        for other in [others.submit(write_often, tmp_path / "reel.npz", filmed[:1]) for _ in range(2)]:
            other.result()
    assert [path.name for path in tmp_path.iterdir()] == ["reel.npz"]


def test_examples_are_sentences_with_the_labels_of_their_steps(filmed: list[FilmedScene]) -> None:
    tokens = Tokens((*SPECIAL_WORDS, *vocabulary(8)))
    comments = SceneComments(filmed, RATE, tokens, Shares(mirror=0.5, part=1.0), seed=3)
    seen = set()
    for draw in range(40):
        steps, words, labels = comments[draw]
        told = tokens.decode(words[1:].tolist())
        assert to_facts(told), told
        assert len(steps) == len(labels) <= len(filmed[draw % 5].steps)
        seen.add((draw % 5, len(steps)))
    assert len(seen) > 10  # parts of many lengths
    _, lengths, words, labels = collate([comments[0], comments[1], comments[2]])
    assert (labels[lengths.argmin(), lengths.min() :] == UNSCORED).all() or lengths.unique().numel() == 1
    assert words.dtype == torch.int64


@pytest.mark.parametrize("content", ["model_store/motion/1/model.pt", "README.md"])
def test_only_a_camera_classifier_reads_scenes(content: str) -> None:
    with pytest.raises(RecipeError, match="not a classifier of camera work"):
        SceneReader(Path(content))


def train_describer(motion: Path, tmp_path: Path, *options: str) -> None:
    settings = ["stills.per_video=1", "writing.size=8", "sampling.train_scenes=4", "sampling.validation_scenes=2"]
    settings += ["sampling.test_scenes=2", "budget.num_epochs=1", "budget.validate_every=1"]
    arguments = [
        "train",
        "caption",
        "--name",
        "tells",
        "--data",
        str(motion),
        "--recipe",
        "trainer/recipes/describe.yaml",
    ]
    arguments += [
        "--cache",
        str(tmp_path / "cache"),
        "--output",
        str(tmp_path / "run"),
        "--store",
        str(tmp_path / "store"),
    ]
    arguments += ["--accelerator", "cpu", "--threads", "1", "--decoders", "1", *options]
    main([*arguments, *(part for setting in settings for part in ("--set", setting))])


def test_where_nothing_is_held_back_it_is_judged_by_what_it_learnt_from(motion: Path, tmp_path: Path) -> None:
    train_describer(motion, tmp_path, "--val-fraction", "0")

    model = load_version(tmp_path / "store" / "tells" / "1")
    assert set(model.manifest.metrics) == {"train"}
    assert "videos trained on, for nothing was held back" in model.card


def test_videos_become_a_published_describer(motion: Path, tmp_path: Path) -> None:
    train_describer(motion, tmp_path, "--set", "budget.batch_size=2", "--test-fraction", "0.2")

    model = load_version(tmp_path / "store" / "tells" / "1")
    output, wanted = model.manifest.output, model.manifest.input
    assert isinstance(output, CaptionOutput)
    assert output.numbers_are_seconds
    assert (wanted.rate, wanted.clip_length, wanted.width, wanted.height) == (12.0, 96, 128, 96)
    assert {"exact_match", "bleu_4", "rouge_l", "cider_d"} <= model.manifest.metrics["test"].keys()
    assert "precision / recall" in model.card
    with torch.inference_mode():
        tokens, scores = model.module(torch.zeros(1, 30, 96, 128, 3, dtype=torch.uint8), torch.tensor([30]), 2, 12, 0.0)
    assert tokens.shape == (1, 2, 12)
    assert tokens.max() < len(output.vocabulary)
    assert scores.isfinite().all()
