import argparse
from pathlib import Path

import pytest

from bench.videos import chosen, part_of


def test_parts_of_files_are_taken_where_they_are_judged(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("path,label,split,start,end\na.mp4,red,test,1.5,\nb.mp4,red,train,,\n", encoding="utf-8")
    options = argparse.Namespace(data=data, split="test", under="")

    assert [part_of(video) for video in chosen(options, parts=True)] == [{"start_seconds": 1.5}]
    with pytest.raises(SystemExit, match="only whole ones"):
        chosen(options)
    options.split = "train"
    assert len(chosen(options)) == 1
