from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.data.index import parse_columns, read_index
from trainer.data.listing import read_listing
from trainer.data.rows import InvalidListing

INDEX = "file,digit,speaker,split\n0_theo_0.wav,0,theo,test\n1_theo_7.wav,1,theo,train\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "index.csv").write_text(INDEX, encoding="utf-8")
    root = tmp_path / "recordings"
    root.mkdir()
    for name in ("0_theo_0.wav", "1_theo_7.wav"):
        (root / name).touch()
    return root


def test_the_columns_of_an_index_become_those_of_a_listing(root: Path) -> None:
    columns = parse_columns(["path=file", "label=digit", "split=split"])
    first, second = read_index(root.parent / "index.csv", root, columns)
    assert (first.path, first.label, first.split, first.group) == (root / "0_theo_0.wav", "0", "test", "0_theo_0.wav")
    assert (second.label, second.split) == ("1", "train")
    grouped = read_index(root.parent / "index.csv", root, {**columns, "group": "speaker"})
    assert {video.group for video in grouped} == {"theo"}


def test_several_sources_make_one_list(root: Path) -> None:
    folder = root.parent
    columns = ["--columns", "path=file", "label=digit", "split=split", "--root", str(root)]
    main(["list", "--data", str(folder / "index.csv"), *columns, "--output", str(folder / "digits.csv")])
    (folder / "clips").mkdir()
    (folder / "clips" / "noise.mp3").touch()
    sources = [str(folder / "digits.csv"), str(folder / "clips")]
    main(["list", "--unlabelled", "--data", *sources, "--output", str(folder / "all.csv")])
    videos = read_listing(folder / "all.csv")
    assert [(video.path.name, video.split) for video in videos] == [
        ("0_theo_0.wav", "test"),
        ("1_theo_7.wav", "train"),
        ("noise.mp3", None),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [(["path=file"], "label=NAME"), (["path=file", "label=digit", "x=y"], "label=NAME")],
)
def test_columns_that_cannot_be_are_refused(columns: list[str], message: str) -> None:
    with pytest.raises(InvalidListing, match=message):
        parse_columns(columns)


def test_what_an_index_lacks_is_named(root: Path) -> None:
    index = root.parent / "index.csv"
    with pytest.raises(InvalidListing, match="no column name"):
        read_index(index, root, {"path": "name", "label": "digit"})
    with pytest.raises(InvalidListing, match=r"split .* is not one of"):
        read_index(index, root, {"path": "file", "label": "digit", "split": "speaker"})
    index.write_text("file,digit\n0_theo_0.wav,\n", encoding="utf-8")
    with pytest.raises(InvalidListing, match="line 2: no label"):
        read_index(index, root, {"path": "file", "label": "digit"})
    index.write_text(INDEX.replace(",train", ", Train").replace("1_theo", " 1_theo"), encoding="utf-8")
    assert [
        video.split for video in read_index(index, root, parse_columns(["path=file", "label=digit", "split=split"]))
    ] == ["test", "train"]
    (root / "1_theo_7.wav").unlink()
    with pytest.raises(InvalidListing, match="1 of 2 files are not below"):
        read_index(index, root, {"path": "file", "label": "digit"})


def test_options_that_a_source_has_no_use_for_are_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["list", "--data", str(root.parent / "index.csv"), "--columns", "path=file", "label=digit"]
    with pytest.raises(SystemExit, match="2"):
        main([*data, "--root", str(root), "--group-pattern", "(theo)", "--output", str(root.parent / "out.csv")])
    assert "--group-pattern with those and with folders" in capsys.readouterr().err
