from pathlib import Path

import pytest

from trainer.data.prepare import DataOptions, list_videos
from trainer.plans.unlabelled import list_any


def write_csv(path: Path, *rows: str) -> Path:
    path.parent.mkdir()
    path.write_text("\n".join(("path,label,group", *rows)))
    return path


def test_files_of_a_group_that_is_tested_are_neither_learnt_nor_tested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_csv(tmp_path / "ours" / "data.csv", "a.mp4,run,one", "b.mp4,run,two", "c.mp4,jump,three")
    test = write_csv(tmp_path / "theirs" / "data.csv", "d.mp4,run,two")

    videos = list_videos(DataOptions(data, test_data=test))

    assert [(video.path.name, video.split) for video in videos] == [("a.mp4", None), ("c.mp4", None), ("d.mp4", "test")]
    told = f"left out: 1 files whose group is in the test data too, such as {data.parent / 'b.mp4'}: two\n"
    assert capsys.readouterr().err == told


def test_files_that_are_called_alike_are_of_different_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name / "clips").mkdir(parents=True)
        (tmp_path / name / "clips" / "a.mp4").write_text(name)
        (tmp_path / name / "data.csv").write_text("path,label\nclips/a.mp4,run\n")

    for data in ("clips", "data.csv"):
        videos = list_any(DataOptions(tmp_path / "ours" / data, test_data=tmp_path / "theirs" / data))
        assert [(video.path.parts[-3], video.split) for video in videos] == [("ours", None), ("theirs", "test")]
    assert capsys.readouterr().err == ""
