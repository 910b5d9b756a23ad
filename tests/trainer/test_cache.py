import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.media.decode import read_media
from app.media.request import FrameChunk, FrameSpec, MediaRequest
from tests.media_maker import moving_frames, write_video
from tests.trainer.crash import crash, fail, write_to_a_full_disk
from trainer.data.cache import CachedVideo, decode_all, open_video
from trainer.data.checks import count_table, find_problems
from trainer.data.decode import CacheSpec, read_entry
from trainer.data.filling import Kind, fill_cache
from trainer.data.listing import Split, Video, read_listing
from trainer.data.workers import JobLimits, NoSpaceError, run_jobs

SPEC = CacheSpec(width=32, height=24, fit="stretch", clip_length=5, frames_width=40, frames_height=30, frames_rate=12.0)
RATE = 24


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Two seconds."""
    path = tmp_path_factory.mktemp("media") / "squares.mp4"
    return Video(write_video(path, moving_frames(2 * RATE), RATE), "squares", "squares")


def decode_one(video: Video, folder: Path, spec: CacheSpec = SPEC) -> CachedVideo:
    decoded, broken = decode_all([video], spec, folder)
    assert not broken
    return open_video(decoded[0], [video.label])


def contents(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_the_clip_is_what_the_service_samples(video: Video, tmp_path: Path) -> None:
    cached = decode_one(video, tmp_path)

    spec = FrameSpec(SPEC.width, SPEC.height, SPEC.fit, clip_length=SPEC.clip_length)
    with video.path.open("rb") as file:
        events = list(read_media(file, MediaRequest(frames=(spec,))))
    served = np.concatenate([event.frames for event in events if isinstance(event, FrameChunk)])
    assert served.shape == (5, 24, 32, 3)
    assert (cached.clip == served).all()


def test_frames_are_the_whole_video_at_the_caches_rate(video: Video, tmp_path: Path) -> None:
    cached = decode_one(video, tmp_path)

    assert cached.frames.shape == (24, 30, 40, 3)  # two seconds, twelve a second
    assert all((before != after).any() for before, after in zip(cached.frames, cached.frames[1:], strict=False))


def test_start_and_end_are_respected(video: Video, tmp_path: Path) -> None:
    whole = decode_one(video, tmp_path)
    part = decode_one(replace(video, start_seconds=0.5, end_seconds=1.5), tmp_path)

    assert part.frames.shape[0] == 12
    assert (part.frames == whole.frames[6:18]).all()
    assert (part.clip != whole.clip).any()


def test_without_a_rate_there_is_the_clip_alone(video: Video, tmp_path: Path) -> None:
    cached = decode_one(video, tmp_path, replace(SPEC, frames_rate=0.0))

    assert len(cached.frames) == 0
    assert (cached.clip == decode_one(video, tmp_path).clip).all()


def test_decoded_once_wherever_the_file_is(video: Video, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = decode_one(video, cache)
    before = contents(cache)
    moved = replace(video, path=tmp_path / "renamed.mp4", label="other", group="other")
    shutil.copy(video.path, moved.path)

    again = decode_one(moved, cache)

    assert contents(cache) == before
    assert (again.frames == first.frames).all()
    assert again.path == str(moved.path)


def test_another_spec_is_another_entry(video: Video, tmp_path: Path) -> None:
    decode_one(video, tmp_path)
    cached = decode_one(video, tmp_path, replace(SPEC, clip_length=7))

    assert cached.clip.shape[0] == 7
    assert len(contents(tmp_path)) == 4


def test_what_is_done_to_the_pixels_stays_out_of_the_cache(video: Video, tmp_path: Path) -> None:
    decode_one(video, tmp_path).clip[:] = 0

    assert decode_one(video, tmp_path).clip.max() > 0


def test_broken_files_are_left_out_and_the_others_kept(video: Video, tmp_path: Path) -> None:
    data, cache = tmp_path / "data" / "squares", tmp_path / "cache"
    data.mkdir(parents=True)
    shutil.copy(video.path, data / "b.mp4")
    (data / "a.mp4").write_bytes(b"no video at all")
    (data / "c.mp4").write_bytes(video.path.read_bytes()[:1000])
    (data / "d.mp4").write_bytes(b"")
    gone = Video(data / "e.mp4", "squares", "e")

    decoded, broken = decode_all([*read_listing(tmp_path / "data"), gone], SPEC, cache)

    assert [item.video.path.name for item in decoded] == ["b.mp4"]
    assert [item.video.path.name for item in broken] == ["a.mp4", "c.mp4", "d.mp4", "e.mp4"]
    assert all(item.reason for item in broken)
    assert broken[-1].reason == "no such file"
    assert {path.suffix for path in cache.iterdir()} == {".rgb", ".json"}


def test_what_a_job_breaks_is_its_own() -> None:
    hows: Iterable[str] = ("fine", "killed", "fine", "hung", "memory", "fine")
    limits = JobLimits(max_memory_bytes=2**30, deadline_seconds=5.0)

    results = dict(run_jobs(crash, [(how,) for how in hows], 2, limits))

    assert results[0] is results[2] is results[5] is None
    assert "died (exit code -9)" in str(results[1])
    assert results[3] == "took over 5 s"
    assert results[4] == "MemoryError"


def test_a_full_disk_is_no_fault_of_the_files(video: Video, tmp_path: Path) -> None:
    kind = Kind(write_to_a_full_disk, "tests.trainer.crash", read_entry, ".rgb", "filling")
    videos = [replace(video, end_seconds=float(end)) for end in (1, 2, 3)]

    with pytest.raises(NoSpaceError, match=f"{tmp_path} has no room"):
        fill_cache(videos, kind, SPEC, lambda video, digest: (video.end_seconds,), tmp_path, 2)

    assert not list(tmp_path.iterdir())


def test_what_could_not_be_decoded_is_not_tried_again(video: Video, tmp_path: Path) -> None:
    kind = Kind(fail, "tests.trainer.crash", read_entry, ".rgb", "failing")

    for _ in range(2):
        decoded, broken = fill_cache([video], kind, SPEC, lambda video, digest: (digest,), tmp_path, 1)
        assert not decoded
        assert [item.reason for item in broken] == ["no"]

    assert len((tmp_path / "tried").read_text().splitlines()) == 1


def test_where_most_files_are_not_there_it_is_told_what_paths_are(video: Video, tmp_path: Path) -> None:
    gone = [Video(tmp_path / f"squares\\{index}.mp4", "squares", str(index)) for index in range(2)]

    for videos in ([video, *gone], gone):
        problems = find_problems(videos, *decode_all(videos, SPEC, tmp_path / "cache"))
        assert problems[0] == (
            f"2 of {len(videos)} files do not exist: paths are relative to the CSV's folder, and backslashes do not "
            "separate folders"
        )
    assert len(problems) == 1


def test_repeated_rows_and_files_divided_between_splits_are_found(video: Video, tmp_path: Path) -> None:
    copy = Path(shutil.copy(video.path, tmp_path / "copy.mp4"))
    first, second = replace(video, end_seconds=1.0), replace(video, start_seconds=1.0)
    repeated = [first, replace(first, path=copy), second]
    divided = [replace(first, split="train"), replace(second, split="val", group="other")]

    found = [
        problem
        for videos in (repeated, divided)
        for problem in find_problems(videos, *decode_all(videos, SPEC, tmp_path / "cache"))
    ]

    few = "there are fewer than two classes"
    assert found == [
        few,
        f"1 files come more than once with the same part, such as {video.path}",
        few,
        f"1 files have parts in several splits, such as {video.path}",
    ]


def labelled(video: Video, label: str, split: Split, name: str) -> Video:
    return replace(video, label=label, split=split, group=name)


def test_problems_are_found(video: Video, tmp_path: Path) -> None:
    long = tmp_path / "long.mp4"
    write_video(long, moving_frames(5 * RATE, seed=1), RATE)
    other = write_video(tmp_path / "other.mp4", moving_frames(2 * RATE, seed=2), RATE)
    copy = shutil.copy(other, tmp_path / "copy.mp4")
    (damaged := tmp_path / "damaged.mp4").write_bytes(b"no video at all")
    videos = [
        labelled(video, "a", "train", "one"),
        labelled(replace(video, path=other), "a", "val", "two"),
        labelled(video, "b", "train", "one"),
        labelled(replace(video, path=long), "b", "test", "three"),
        labelled(replace(video, path=copy), "a", "train", "four"),
        labelled(replace(video, path=damaged), "c", "train", "five"),
    ]

    decoded, broken = decode_all(videos, SPEC, tmp_path / "cache")
    problems = find_problems(videos, decoded, broken)

    assert [item.video.path.name for item in broken] == ["copy.mp4", "damaged.mp4"]
    assert broken[0].reason == f"also in val, as {other}"
    assert problems == [
        "2 of 6 files are left out",
        "no file of c is left",
        "no val video of b",
        "no test video of a",
        f"1 files have several labels, such as {video.path} of a and {video.path} of b",
        "the median duration (s) is 2 in train and 5 in test",
    ]
    assert count_table(videos) == [
        ["label", "train", "val", "test", "groups"],
        ["a", "2", "1", "0", "3"],
        ["b", "1", "0", "1", "2"],
        ["c", "1", "0", "0", "1"],
        ["all", "4", "1", "1", "5"],
    ]


def test_nothing_is_wrong_with_good_data(motion: Path, tmp_path: Path) -> None:
    videos = [replace(video, split="train") for video in read_listing(motion)]

    decoded, broken = decode_all(videos, SPEC, tmp_path)

    assert find_problems(videos, decoded, broken) == []
