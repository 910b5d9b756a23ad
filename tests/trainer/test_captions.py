"""Captions of people: listings and layouts, words, and the way from described videos to a served model."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.models.manifest import SPECIAL_WORDS, CaptionOutput
from app.models.store import load_version
from tests.media_maker import write_video
from trainer.__main__ import main
from trainer.data.captions import Captioned, read_captions, read_msr_vtt, read_msvd, write_captions
from trainer.data.prepare import DataOptions
from trainer.data.rows import InvalidListing
from trainer.data.words import Tokens, learn_vocabulary, split_words
from trainer.plan import PlanOptions
from trainer.plans.caption import plan_caption
from trainer.recipe.caption import CaptionRecipe
from trainer.recipe.reading import RECIPES, read_recipe

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of half a second, named as MSVD's are: four YouTube videos of each colour, some in two clips."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(12):
        frames = np.full((6, 48, 64, 3), 20, np.uint8)
        frames[..., number % 3] = 150 + number
        write_video(folder / f"video_{number // 3}{number % 3}_{number}_{number + 1}.avi", frames, 12, "mpeg4")
    return folder


def test_msvd_gives_all_captions_of_the_clips_that_are_there(videos: Path, tmp_path: Path) -> None:
    text = tmp_path / "AllVideoDescriptions.txt"
    text.write_text("# from the web\nvideo_00_0_1 a red wall\nvideo_00_0_1 it's red\nvideo_99_1_2 not there\n")
    (found,) = read_msvd(text, videos)
    assert found.captions == ("a red wall", "it's red")
    assert (found.video.path.name, found.video.group, found.video.split) == ("video_00_0_1.avi", "video_00", None)


def test_clips_of_one_source_are_one_group(tmp_path: Path) -> None:
    listing = tmp_path / "captions.csv"
    listing.write_text("path,caption\na_1.mp4,a red wall\na_2.mp4,a wall\n./a_1.mp4,it is red\nb_1.mp4,a dog\n")

    found = read_captions(listing, r"(\w)_\d")

    assert [(one.video.path.name, one.video.group, len(one.captions)) for one in found] == [
        ("a_1.mp4", "a", 2),
        ("a_2.mp4", "a", 1),
        ("b_1.mp4", "b", 1),
    ]


def test_what_is_not_msr_vtt_is_refused(tmp_path: Path) -> None:
    for text in ("no JSON", "[]", '{"sentences": [{"video_id": "a"}], "videos": []}'):
        (tmp_path / "info.json").write_text(text)
        with pytest.raises(InvalidListing, match="not MSR-VTT's JSON"):
            read_msr_vtt(tmp_path / "info.json", tmp_path)


def test_msr_vtt_gives_captions_with_its_own_splits(videos: Path, tmp_path: Path) -> None:
    names = [path.stem for path in sorted(videos.iterdir())]
    content = {
        "videos": [
            {"video_id": names[0], "split": "train", "url": "u1"},
            {"video_id": names[1], "split": "validate", "url": "u2"},
            {"video_id": names[2], "split": "test", "url": "u1"},
            {"video_id": "gone", "split": "test", "url": "u3"},
        ],
        "sentences": [{"video_id": name, "caption": f"caption {i}"} for i, name in enumerate([*names[:3], names[0]])],
    }
    path = tmp_path / "videodatainfo.json"
    path.write_text(json.dumps(content))
    found = read_msr_vtt(path, videos)
    assert [one.video.split for one in found] == ["train", "val", "test"]
    assert found[0].captions == ("caption 0", "caption 3")
    assert len({one.video.group for one in found}) == 3


def test_a_listing_is_read_back_as_it_was_written(videos: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("video_00_0_1 a red wall, seen\nvideo_01_1_2 green\nvideo_00_0_1 one more\n")
    found = read_msvd(text, videos)
    write_captions(found, tmp_path / "list.csv")
    again = read_captions(tmp_path / "list.csv")
    assert [(one.video, one.captions) for one in again] == [(one.video, one.captions) for one in found]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path\na.mp4\n", "no column caption"),
        ("path,caption,sound\na.mp4,x,y\n", "unknown columns sound"),
        ("path,caption\na.mp4,\n", "line 2: no caption"),
        ("path,caption,split\na.mp4,x,later\n", "'later' is not one of"),
        ("path,caption,split\na.mp4,x,train\na.mp4,y,test\n", "line 3: another split"),
        ("path,caption\n", "no rows"),
    ],
)
def test_a_listing_that_is_wrong_says_where(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(content)
    with pytest.raises(InvalidListing, match=reason):
        read_captions(path)


def test_a_folder_says_nothing_of_its_videos(tmp_path: Path) -> None:
    with pytest.raises(InvalidListing, match="captions are in one with the columns path and caption"):
        read_captions(tmp_path)


def test_no_video_at_all_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a_0_1 something\n")
    with pytest.raises(InvalidListing, match="has none of the videos"):
        read_msvd(tmp_path / "text.txt", tmp_path)


def test_words_are_lower_case_without_punctuation() -> None:
    assert split_words("A Man's DOG -- runs, (very) fast!") == ("a", "man's", "dog", "runs", "very", "fast")


def test_rare_words_are_not_in_the_vocabulary_and_come_as_unknown() -> None:
    vocabulary = learn_vocabulary([("a", "dog"), ("a", "cat"), ("a", "dog")], least_count=2)
    assert vocabulary == (*SPECIAL_WORDS, "a", "dog")
    tokens = Tokens(vocabulary)
    assert tokens.encode(("a", "cat", "dog")) == [1, 4, 3, 5, 2]
    assert tokens.decode([4, 5, 2, 4]) == ("a", "dog")


def write_listing(videos: Path, folder: Path) -> Path:
    """A CSV of two captions for each video."""
    text = folder / "text.txt"
    colours = {path.stem: COLOURS[int(path.stem.split("_")[1][1])] for path in videos.iterdir()}
    text.write_text(
        "".join(f"{name} A {colour} wall.\n{name} the wall is {colour}\n" for name, colour in colours.items())
    )
    listing = folder / "list.csv"
    main(["captions", "msvd", "--data", str(text), "--videos", str(videos), "--output", str(listing)])
    return listing


def run_trainer(listing: Path, folder: Path, num_epochs: int, *options: str) -> None:
    settings = ["input.width=32", "input.height=24", "input.clip_length=3", "frames.num_channels=[8]", "frames.size=16"]
    settings += [
        "frames.dropout=0",
        "words.least_count=1",
        "writing.size=16",
        "writing.max_length=8",
        f"budget.num_epochs={num_epochs}",
    ]
    settings += ["budget.batch_size=6", f"budget.validate_every={num_epochs}", "budget.precision=32-true"]
    settings += ["optimisation.learning_rate=0.02", "optimisation.label_smoothing=0", "optimisation.ema_decay=0.8"]
    arguments = [
        "train",
        "caption",
        "--name",
        "walls",
        "--data",
        str(listing),
        "--recipe",
        "trainer/recipes/captions.yaml",
    ]
    arguments += [
        "--cache",
        str(folder / "cache"),
        "--output",
        str(folder / "run"),
        "--store",
        str(folder / "store"),
    ]
    arguments += ["--accelerator", "cpu", "--threads", "1", "--decoders", "1", *options]
    main([*arguments, *(part for setting in settings for part in ("--set", setting))])


def test_described_videos_become_a_served_model(videos: Path, tmp_path: Path) -> None:
    run_trainer(write_listing(videos, tmp_path), tmp_path, 60, "--test-fraction", "0.2")

    model = load_version(tmp_path / "store" / "walls" / "1")
    output = model.manifest.output
    assert isinstance(output, CaptionOutput)
    assert set(output.vocabulary) == {*SPECIAL_WORDS, "a", "the", "wall", "is", *COLOURS}
    assert (model.manifest.task, model.manifest.causal, output.numbers_are_seconds) == ("caption", False, False)
    measured = model.manifest.metrics["val"]
    assert set(measured) == {"exact_match", "bleu_4", "rouge_l", "cider_d"}
    assert measured["exact_match"] == 1.0  # colours of other clips than those of training
    assert "CIDEr-D" in model.card


def test_figures_of_what_was_trained_on_are_said_to_be_that(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_trainer(write_listing(videos, tmp_path), tmp_path, 1, "--val-fraction", "0")

    card = load_version(tmp_path / "store" / "walls" / "1").card
    assert "| train | " in card
    assert "- Nothing was held back: its figures are of the files it was trained on" in card
    assert "warning" not in capsys.readouterr().err  # of classes, say, for there are none


def test_every_process_has_a_batch_of_what_is_described(videos: Path, tmp_path: Path) -> None:
    data = DataOptions(write_listing(videos, tmp_path), val_fraction=0.0, cache=tmp_path / "cache", num_processes=1)
    recipe = read_recipe(RECIPES / "captions.yaml", ("words.least_count=1", "budget.batch_size=16"), CaptionRecipe)

    plan = plan_caption(recipe, PlanOptions(data, "gru", seed=0, num_devices=2))

    assert plan.train.batch_size == 6  # half of the twelve, where half a batch would be eight


def test_captions_that_say_nothing_are_told(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mute, *others = sorted(videos.iterdir())[:3]
    rows = [f"{path},{caption}" for path, caption in ((mute, "..."), *((other, "a wall") for other in others))]
    (tmp_path / "list.csv").write_text("\n".join(["path,caption", *rows]) + "\n", encoding="utf-8")
    data = DataOptions(tmp_path / "list.csv", val_fraction=0.0, cache=tmp_path / "cache", num_processes=1)
    recipe = read_recipe(RECIPES / "captions.yaml", (), CaptionRecipe)

    with pytest.raises(InvalidListing, match=r"no word comes 3 times .* a lower words\.least_count"):
        plan_caption(recipe, PlanOptions(data, "gru", seed=0))

    assert f"left out: {mute}: no words in its captions\n" in capsys.readouterr().err


def test_captions_are_of_one_video(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,caption\nb.mp4,two\na.mp4,one\nb.mp4,three\n")
    found: list[Captioned] = read_captions(tmp_path / "list.csv")
    assert {one.video.path.name: one.captions for one in found} == {"b.mp4": ("two", "three"), "a.mp4": ("one",)}
