from dataclasses import replace
from pathlib import Path

import pytest

from trainer.data.listing import Split, Video
from trainer.data.rows import InvalidListing
from trainer.data.splits import copies_held_back, kept_apart, split_by_group

ALL: tuple[Split, ...] = ("train", "val", "test")


def make_videos(num_groups: int, per_group: int = 3, split: Split | None = None) -> list[Video]:
    return [
        Video(Path(f"g{group}_{index}.mp4"), label=f"label{group % 2}", group=f"g{group}", split=split)
        for group in range(num_groups)
        for index in range(per_group)
    ]


def splits_of(videos: list[Video]) -> dict[str, set[str | None]]:
    groups: dict[str, set[str | None]] = {}
    for video in videos:
        groups.setdefault(video.group, set()).add(video.split)
    return groups


def test_groups_are_never_divided() -> None:
    videos = split_by_group(make_videos(200), val_fraction=0.2, test_fraction=0.3)

    assert all(len(splits) == 1 for splits in splits_of(videos).values())
    shares = {split: sum(video.split == split for video in videos) / len(videos) for split in ("train", "val", "test")}
    # Three standard deviations of 200 draws are 0.08 and 0.10.
    assert shares["val"] == pytest.approx(0.2, abs=0.09)
    assert shares["test"] == pytest.approx(0.3, abs=0.1)


def test_adding_videos_moves_no_other() -> None:
    few, many = make_videos(50), make_videos(120, per_group=4)

    before = splits_of(split_by_group(few, val_fraction=0.2))
    after = splits_of(split_by_group(many[::-1], val_fraction=0.2))

    assert all(after[group] == splits for group, splits in before.items())


def test_a_larger_fraction_only_adds() -> None:
    videos = make_videos(100)

    small = {video.path for video in split_by_group(videos, val_fraction=0.1) if video.split == "val"}
    large = {video.path for video in split_by_group(videos, val_fraction=0.3) if video.split == "val"}

    assert small < large


def test_given_splits_stay() -> None:
    test = [Video(Path(f"t{index}.mp4"), "label0", f"t{index}", "test") for index in range(20)]

    videos = split_by_group([*make_videos(50, split="train"), *test], val_fraction=0.2, test_fraction=0.5)

    assert {video.path for video in videos if video.split == "test"} == {video.path for video in test}
    assert {video.split for video in videos} == {"train", "val", "test"}


def test_given_validation_is_enough() -> None:
    val = [Video(Path("v.mp4"), "label0", "v", "val")]

    videos = split_by_group([*make_videos(50), *val], val_fraction=0.2)

    assert [video.group for video in videos if video.split == "val"] == ["v"]


def test_a_group_follows_its_given_split() -> None:
    videos = make_videos(30)
    marked = [Video(Path("marked.mp4"), "label0", "g7", "test"), *videos]

    assert splits_of(split_by_group(marked, val_fraction=0.2))["g7"] == {"test"}


def test_a_group_in_two_splits_is_refused() -> None:
    videos = [*make_videos(3, split="train"), Video(Path("x.mp4"), "label0", "g1", "test")]

    with pytest.raises(InvalidListing, match="group g1"):
        split_by_group(videos, val_fraction=0.5)


def test_nothing_to_validate_with() -> None:
    with pytest.raises(InvalidListing, match="0 to validate with"):
        split_by_group(make_videos(1), val_fraction=0.001)


def test_nothing_to_test_on() -> None:
    with pytest.raises(InvalidListing, match="0 to test on"):
        split_by_group(make_videos(2), val_fraction=0.0, test_fraction=0.001)


def test_every_label_is_validated_and_tested() -> None:
    videos = split_by_group(make_videos(8), val_fraction=0.001, test_fraction=0.001)

    found = [(video.label, video.split) for video in videos if video.path.name.endswith("_0.mp4")]
    assert sorted(set(found)) == sorted((f"label{label}", split) for label in (0, 1) for split in ALL)
    assert len(found) == 8


@pytest.mark.parametrize(("split", "shared"), [("val", "c"), ("test", "both")])
def test_no_label_loses_its_last_group_to_train_on_for_another(split: Split, shared: str) -> None:
    """The shared group comes closest, but is all that there is of `jump`: `run` gives its other one."""
    videos = [Video(Path(f"{label}-{group}.mp4"), label, group) for label, group in
              (("jump", shared), ("run", shared), ("run", "own"))]  # fmt: skip
    fractions = {"val": (1e-9, 0.0), "test": (0.0, 1e-9)}[split]
    found = split_by_group(videos, *fractions)
    assert {video.group for video in found if video.split == split} == {"own"}


def test_nothing_is_held_back_where_nothing_was_asked_for() -> None:
    assert {video.split for video in split_by_group(make_videos(30), val_fraction=0.0)} == {"train"}


def make_file(name: str, split: Split | None, start: float | None = None, end: float | None = None) -> Video:
    return Video(Path(name), "label0", name, split, start, end)


def test_copies_are_left_to_the_split_that_is_judged_last() -> None:
    train, val, test = make_file("a", "train"), make_file("b", "val"), make_file("c", "test")
    other, again, unknown = make_file("d", "train"), make_file("e", "train"), make_file("f", "train")

    videos = [train, val, test, other, again, unknown]
    found = copies_held_back(videos, ["one", "one", "one", "two", "two", None])

    assert found.keys() == {train, val}
    assert found[val] == test
    assert copies_held_back([make_file("a", None), test], ["one", "one"]) == {}


def test_parts_of_one_file_are_copies_where_they_overlap() -> None:
    first, second, rest = (
        make_file("a", "train", None, 5.0),
        make_file("b", "train", 4.0, 6.0),
        make_file("c", "val", 5),
    )

    assert copies_held_back([first, second, rest], ["one"] * 3) == {second: rest}


def test_what_is_kept_apart_are_files_where_groups_join_none() -> None:
    assert kept_apart(make_videos(2)) == "source (group)"
    assert kept_apart(make_videos(2, per_group=1)) == "file"


def test_where_files_are_divided_only_their_parts_are_kept_apart() -> None:
    first, second = (Video(Path("a"), "label0", f"a {part}", "train", part, part + 1) for part in (0, 1))

    assert kept_apart([first, second]) == "file"
    assert kept_apart([first, replace(second, split="val")]) == "part (files are divided among them)"
