import os
from pathlib import Path

import pytest

from trainer.data.listing import SPLIT_NAMES, labels_of, list_files, read_listing, write_listing
from trainer.data.rows import InvalidListing


def make_files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(name))


def test_folder_per_class(tmp_path: Path) -> None:
    make_files(tmp_path, "run/b.mp4", "run/deep/a.mp4", "jump/c.avi", "jump/.DS_Store")

    videos = read_listing(tmp_path)

    assert [(video.path.name, video.label, video.group) for video in videos] == [
        ("c.avi", "jump", "jump/c.avi"),
        ("b.mp4", "run", "run/b.mp4"),
        ("a.mp4", "run", "run/deep/a.mp4"),
    ]
    assert labels_of(videos) == ("jump", "run")
    assert {video.split for video in videos} == {None}


def test_folders_of_splits(tmp_path: Path) -> None:
    make_files(tmp_path, "train/run/a.mp4", "validation/run/b.mp4", "test/run/c.mp4")

    splits = {video.path.name: video.split for video in read_listing(tmp_path)}

    assert splits == {"a.mp4": "train", "b.mp4": "val", "c.mp4": "test"}


@pytest.mark.parametrize("names", [("training", "testing"), ("Train", "valid"), ("val", "test")])
def test_folders_of_splits_have_more_than_one_name(tmp_path: Path, names: tuple[str, str]) -> None:
    make_files(tmp_path, *(f"{name}/{label}/a.mp4" for name in names for label in ("run", "jump")))

    assert labels_of(read_listing(tmp_path)) == ("jump", "run")
    assert {video.split for video in read_listing(tmp_path)} == {SPLIT_NAMES[name.lower()] for name in names}


def test_train_may_be_a_class(tmp_path: Path) -> None:
    make_files(tmp_path, "train/a.mp4", "bus/b.mp4")

    assert labels_of(read_listing(tmp_path)) == ("bus", "train")


def test_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    make_files(tmp_path, "train/run/a.mp4", "val/run/b.mp4", "raw/c.mp4", "old/d.mp4")

    with pytest.raises(InvalidListing, match="holds splits and, beside them, old, raw"):
        read_listing(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"_g\d+_", ["_g01_", "_g02_"]),
        (r"_(g\d+)_", ["g01", "g02"]),
        (r"v_(\w+)_(g\d+)_c", ["Archery/g01", "Archery/g02"]),
        (r"_(g01)_|_(g02)_", ["g01", "g02"]),
    ],
)
def test_group_pattern(tmp_path: Path, pattern: str, groups: list[str]) -> None:
    make_files(tmp_path, "Archery/v_Archery_g01_c01.mp4", "Archery/v_Archery_g02_c01.mp4")

    assert [video.group for video in read_listing(tmp_path, pattern)] == groups


def test_group_pattern_must_match(tmp_path: Path) -> None:
    make_files(tmp_path, "Archery/other.mp4")

    with pytest.raises(InvalidListing, match=r"not found in 'Archery/other\.mp4'"):
        read_listing(tmp_path, r"_g\d+_")


def test_csv_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(
        "path,label,split,group,start,end\n clips/a.mp4 ,run,train,g1,,\n/else/b.mp4,jump,Validation,,1.5,4\n"
    )

    videos = read_listing(tmp_path / "data.csv")
    write_listing(videos, tmp_path / "again.csv")

    assert [video.path for video in videos] == [tmp_path / "clips/a.mp4", Path("/else/b.mp4")]
    assert [video.split for video in videos] == ["train", "val"]
    assert [video.group for video in videos] == ["g1", "/else/b.mp4"]
    assert (videos[1].start_seconds, videos[1].end_seconds) == (1.5, 4.0)
    assert (tmp_path / "again.csv").read_text().splitlines()[1].startswith("clips/a.mp4,")
    assert read_listing(tmp_path / "again.csv") == videos


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path\na.mp4\n", "no column label$"),
        ("path;label\na.mp4;run\n", "no column label, path; commas part columns, not semicolons or tabs"),
        ("path,caption\na.mp4,a man runs\n", "no column label; captions are for `train caption`"),
        ("path,label,splt\na.mp4,run,test\n", "unknown columns splt"),
        ("path,label\na.mp4,\n", "line 2: no label"),
        ("path,label,split\na.mp4,run,dev\n", "'dev' is not one of"),
        ("path,label,start,end\na.mp4,run,3,2\n", "end 2.0 is not after start 3.0"),
        ("path,label,start\na.mp4,run,soon\n", "'soon' is not a number"),
        ("path,label,start\na.mp4,run,nan\n", "nan seconds is out of range"),
        ("path,label\n", "no labelled rows"),
        ("path,label\n,run\n", "line 2: no path"),
        ("path,label\na.mp4,run, fast\n", "line 2: more fields than columns"),
        ("path,label\na.mp4,r\0n\n", "line 2: a NUL character"),
        ("path,label\na.mp4,\udce9t\udce9\n", "is not UTF-8: invalid continuation byte at byte 17"),
    ],
)
def test_csv_errors_say_what_to_change(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data.csv").write_text(text, encoding="utf-8", errors="surrogateescape")

    with pytest.raises(InvalidListing, match=message):
        read_listing(tmp_path / "data.csv")


def test_one_file_written_two_ways_is_one_source(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("path,label,start,end\na.mp4,run,0,1\n./a.mp4,jump,1,2\n")

    assert {video.group for video in read_listing(tmp_path / "data.csv")} == {"a.mp4"}


def test_rows_of_a_larger_table(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("path,bytes,label\nclips/a.mp4,1,run\nclips/b.mp4,1,\nother/c.mp4,1,jump\n")

    videos = read_listing(tmp_path / "all.csv", under="clips/", extra_columns=True)

    assert [(video.path.name, video.label) for video in videos] == [("a.mp4", "run")]


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidListing, match="no videos"):
        read_listing(tmp_path)
    with pytest.raises(InvalidListing, match="no such folder or CSV"):
        read_listing(tmp_path / "missing")


def test_what_is_hidden_is_no_data_however_deep(tmp_path: Path) -> None:
    make_files(tmp_path, "run/a.mp4", "run/.thumbnails/a.mp4", "run/deep/.cache/b.mp4")

    assert [video.group for video in read_listing(tmp_path)] == ["run/a.mp4"]
    assert [video.group for video in list_files(tmp_path, prefix="")] == ["run/a.mp4"]


def test_a_folder_without_files_is_told_to_be_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_files(tmp_path, "run/a.mp4", "jump/.DS_Store")

    assert labels_of(read_listing(tmp_path)) == ("run",)
    assert capsys.readouterr().err == f"warning: {tmp_path}/jump has no files: it is no class\n"


def test_a_link_to_nothing_is_not_passed_over(tmp_path: Path) -> None:
    make_files(tmp_path, "run/a.mp4")
    (tmp_path / "run/b.mp4").symlink_to(tmp_path / "gone.mp4")

    assert [video.path.name for video in read_listing(tmp_path)] == ["a.mp4", "b.mp4"]


def test_what_is_listed_under_no_class_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_files(tmp_path, "data/run/a.mp4", "data/run/deep/b.mp4", "data/loose.mp4", "elsewhere/c.mp4")
    (tmp_path / "data/run/deep/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/jump").symlink_to(tmp_path / "elsewhere")  # a class may be a link

    videos = read_listing(tmp_path / "data")

    assert [(video.label, video.path.name) for video in videos] == [
        ("jump", "c.mp4"),
        ("run", "a.mp4"),
        ("run", "b.mp4"),
    ]
    told = capsys.readouterr().err
    assert told.splitlines() == [
        f"warning: {tmp_path}/data/run/deep/linked is a link to a folder, whose files are left out: move them here",
        f"left out: files beside the classes in {tmp_path}/data, which have no label: loose.mp4, …",
    ]


@pytest.mark.parametrize("name", [b"run/caf\xe9.mp4", b"caf\xe9/a.mp4"])
def test_a_name_that_no_csv_could_hold_is_refused(tmp_path: Path, name: bytes) -> None:
    make_files(tmp_path, "run/b.mp4", os.fsdecode(name))

    for read in (read_listing, list_files):
        with pytest.raises(InvalidListing, match=r"caf\\xe9.*not UTF-8"):
            read(tmp_path)
