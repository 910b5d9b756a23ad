"""Clips to learn from, what a step of learning is, and the way from videos to a checked file."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.models import torchscript
from tests.media_maker import write_video
from trainer.data.prepare import DataOptions
from trainer.data.rows import InvalidListing
from trainer.plan import PlanOptions
from trainer.plans.predict import plan_predict
from trainer.publish import Compiled
from trainer.recipe.predict import PredictRecipe, Sampling
from trainer.recipe.reading import RECIPES, RecipeError, read_recipe
from trainer.tasks.predict_clips import MiddleClips, MovingDigits, VideoClips
from trainer.tasks.predict_pictures import draw_strips
from trainer.training import Machine, fit

SMALL = (
    "network.num_features=8",
    "network.quarter_size=8",
    "network.eighth_size=8",
    "sampling.clips_per_epoch=4",
    "sampling.num_drawn_to_validate=6",
    "optimisation.horizon=2",
    "optimisation.horizon_growth=0",
    "optimisation.warmup=0",
    "budget.num_epochs=2",
    "budget.batch_size=2",
    "budget.validate_every=1",
    "budget.precision=32-true",
)


def sampling(**changes: float) -> Sampling:
    plain = {"clips_per_epoch": 8, "crop": 16, "shrink_share": 0, "flip": 0, "reverse": 0}
    return Sampling.model_validate(plain | changes)


def counting_video(num_frames: int = 12, height: int = 24, width: int = 40) -> np.ndarray:
    """(N,H,W,3): red tells the frame, green the row, blue the column."""
    places = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    return np.stack(places, axis=3).astype(np.uint8)


def test_a_draw_is_a_part_of_a_video_and_depends_on_its_number_alone() -> None:
    clips = VideoClips([counting_video()], 5, sampling(), seed=1)
    clip = clips[7]
    assert clip.shape == (5, 16, 16, 3)
    assert (clip[:, 0, 0, 0].diff() == 1).all()
    assert (clip[0, :, 0, 1].diff() == 1).all()
    assert (clip[0, 0, :, 2].diff() == 1).all()
    assert torch.equal(clip, VideoClips([counting_video()], 5, sampling(), seed=1)[7])
    assert len({tuple(clips[draw][0, 0, 0].tolist()) for draw in range(20)}) > 10


def test_clips_are_mirrored_and_reversed_and_shrunk() -> None:
    video = counting_video()
    assert (VideoClips([video], 5, sampling(flip=1), seed=1)[0][0, 0, :, 2].int().diff() == -1).all()
    assert (VideoClips([video], 5, sampling(reverse=1), seed=1)[0][:, 0, 0, 0].int().diff() == -1).all()
    shrunk = VideoClips([video], 5, sampling(shrink_share=1), seed=1)[0]
    assert shrunk.shape == (5, 16, 16, 3)
    assert shrunk[0, :, 0, 1].max() - shrunk[0, :, 0, 1].min() >= 20  # all of the 24 rows, but for the blur


def test_digits_and_middles_come_as_frames() -> None:
    digits = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    drawn = MovingDigits(digits, 6, count=3, seed=0)
    assert len(drawn) == 3
    assert drawn[0].shape == (6, 64, 64, 3)
    assert (drawn[0][..., 0] == drawn[0][..., 2]).all()
    assert not torch.equal(drawn[0], drawn[1])
    assert MiddleClips([counting_video(13)], 5)[0][:, 0, 0, 0].tolist() == [4, 5, 6, 7, 8]


def test_strips_show_what_came_above_what_was_forecast(tmp_path: Path) -> None:
    from PIL import Image

    frames = np.zeros((20, 8, 8, 3), np.uint8)
    frames[10:] = 100
    draw_strips([(frames, np.ones((10, 8, 8, 3), np.float32))], 10, tmp_path / "pictures" / "strips.png")
    picture = np.asarray(Image.open(tmp_path / "pictures" / "strips.png"))
    assert picture.shape == (2 * 12, 7 * 12, 3)
    assert (picture[2:10, 2:10] == 0).all()  # observed
    assert (picture[2:10, 3 * 12 + 2 : 3 * 12 + 10] == 100).all()  # what came
    assert (picture[14:22, 3 * 12 + 2 : 3 * 12 + 10] == 255).all()  # forecast


@pytest.mark.parametrize("name", ["forecast", "forecast-mnist"])
def test_shipped_recipes_are_recipes(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml", (), PredictRecipe)
    assert recipe.input.num_observed == 10
    with pytest.raises(RecipeError, match="crop must be a multiple of 8"):
        read_recipe(RECIPES / f"{name}.yaml", ("sampling.crop=20",), PredictRecipe)


def test_what_is_added_must_be_of_one_size() -> None:
    with pytest.raises(RecipeError, match="must be the same"):
        read_recipe(RECIPES / "forecast-mnist.yaml", ("network.num_features=8",), PredictRecipe)


def test_videos_become_a_checked_forecaster(tmp_path: Path, motion: Path) -> None:
    recipe = forecast_recipe()
    data = DataOptions(motion, val_fraction=0.3, cache=tmp_path / "cache", num_processes=1)
    torch.manual_seed(0)
    plan = plan_predict(recipe, PlanOptions(data, "gru", seed=0))
    compiled = Compiled("predict", plan)
    fitted = fit(plan, tmp_path, recipe.budget, 0, Machine("cpu", num_threads=1), resume=False)
    assert fitted is not None
    assert [epoch.epoch for epoch in fitted.epochs] == [1, 2]
    module = torchscript.load(compiled.save(fitted.learner.module(), tmp_path))
    report = plan.evaluate(module, tmp_path)
    found = report.metrics["val"]
    assert found["psnr_1"] > found["copy_psnr_1"]  # a shape that moves on evenly: it begins where motion goes on
    assert "| copy last |" in report.text
    cards = [path.name for path in (tmp_path / "pictures").iterdir()]
    assert cards == ["forecast_of_drawn_video.png"]  # and nobody's footage


def forecast_recipe(*changes: str) -> PredictRecipe:
    return read_recipe(
        RECIPES / "forecast.yaml", (*SMALL, "input.side=64", "sampling.crop=48", *changes), PredictRecipe
    )


def test_a_folder_without_classes_is_forecast_and_what_is_too_short_or_small_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, num_frames, height in (("a", 15, 48), ("b", 16, 48), ("short", 11, 48), ("small", 15, 32)):
        write_video(folder / f"{name}.mp4", counting_video(num_frames, height, 64), 15, "mpeg4")
    data = DataOptions(folder, val_fraction=0.0, cache=tmp_path / "cache", num_processes=1)

    plan = plan_predict(forecast_recipe(), PlanOptions(data, "gru", seed=0))

    assert plan.num_examples == {"train": 2}
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("decoding")]
    assert said == [
        f"left out: {folder}/short.mp4: 11 frames at 15/s, 12 needed",
        f"left out: {folder}/small.mp4: 64x32 pixels, 48x48 needed",
    ]
    rows = "a.mp4,any,train\nb.mp4,any,train\nshort.mp4,any,val\n"
    (folder / "split.csv").write_text(f"path,label,split\n{rows}")
    with pytest.raises(InvalidListing, match="no val videos of 12 frames and 48 pixels are left"):
        plan_predict(forecast_recipe(), PlanOptions(replace(data, data=folder / "split.csv"), "gru", seed=0))


def test_several_processes_have_something_to_learn_from_each(tmp_path: Path, motion: Path) -> None:
    data = DataOptions(motion, cache=tmp_path / "cache", num_processes=1)
    changes = ("sampling.clips_per_epoch=6", "budget.batch_size=8")

    plan = plan_predict(forecast_recipe(*changes), PlanOptions(data, "gru", seed=0, num_devices=2))

    assert (plan.train.batch_size, plan.train.drop_last) == (4, False)  # of three clips each


def test_files_of_anything_but_digits_are_told(tmp_path: Path) -> None:
    recipe = read_recipe(RECIPES / "forecast-mnist.yaml", SMALL, PredictRecipe)
    for content in (b"no gzip", gzip.compress(b"too short"), gzip.compress(b"not the right magic number at all")):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(InvalidListing, match=r"ubyte\.gz is not a gzipped IDX file of digits"):
            plan_predict(recipe, PlanOptions(DataOptions(tmp_path), "lstm", seed=0))


def test_digits_become_a_checked_forecaster(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    digits = np.zeros((6100, 28, 28), np.uint8)
    digits[:, 6:22, 8:20] = generator.integers(128, 256, (6100, 16, 12))
    content = struct.pack(">4I", 2051, len(digits), 28, 28) + digits.tobytes()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content, 1))
    changes = (*SMALL, "sampling.clips_per_epoch=200", "optimisation.learning_rate=1e-2", "optimisation.ema_decay=0")
    recipe = read_recipe(RECIPES / "forecast-mnist.yaml", changes, PredictRecipe)
    torch.manual_seed(0)
    plan = plan_predict(recipe, PlanOptions(DataOptions(tmp_path), "lstm", seed=0))
    compiled = Compiled("predict", plan)
    fitted = fit(plan, tmp_path, recipe.budget, 0, Machine("cpu", num_threads=1), resume=False)
    assert fitted is not None
    module = torchscript.load(compiled.save(fitted.learner.module(), tmp_path))
    report = plan.evaluate(module, tmp_path)
    assert report.metrics["val"]["mse"] < min(report.metrics["val"]["copy_mse"], report.metrics["val"]["black_mse"])
    assert report.metrics["val"].keys() >= {"mse", "mae", "ssim", "black_mse", "copy_mse"}
