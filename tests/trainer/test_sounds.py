import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.media.decode import read_media
from app.media.request import MediaRequest, WaveformChunk, WaveformSpec
from tests.media_maker import moving_frames, sine, write_sound, write_video
from trainer.data.listing import Split, Video
from trainer.data.sounds import CachedSound, decode_sounds, list_unlabelled, open_sound
from trainer.tasks.clips import DrawSampler
from trainer.tasks.waveforms import AlikeBatches, TrainingSounds, collate

RATE = 16_000
SPLIT_STARTS: tuple[tuple[Split, float], ...] = (("train", 0.0), ("val", 0.5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav at another rate, a video with sound, one without, and what is no media at all."""
    folder = tmp_path_factory.mktemp("sounds")
    write_sound(folder / "high.wav", sine(1.0, 44_100, 880.0), 44_100)
    write_video(folder / "loud.mp4", moving_frames(24), 24, waveform=sine(1.0, RATE, 220.0))
    write_video(folder / "mute.mp4", moving_frames(24), 24)
    (folder / "notes.txt").write_text("not a sound", encoding="utf-8")
    return folder


def test_a_sound_is_what_the_service_decodes(folder: Path, tmp_path: Path) -> None:
    path = folder / "high.wav"
    found = decode_sounds([Video(path, "high", "high")], RATE, tmp_path, 1)
    sound = open_sound(found.decoded[0], ["high", "low"])

    with path.open("rb") as file:
        events = list(read_media(file, MediaRequest(waveforms=(WaveformSpec(RATE, 1_000),))))
    served = np.concatenate([event.waveform for event in events if isinstance(event, WaveformChunk)])
    assert sound.label == 0
    assert abs(len(sound.waveform) - RATE) <= 2  # a second; the resampler rounds at either end
    assert (sound.waveform == served).all()


def test_files_without_sound_are_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    videos = list_unlabelled(folder)
    found = decode_sounds(videos, RATE, tmp_path, 1)

    assert [video.path.name for video in videos] == ["high.wav", "loud.mp4", "mute.mp4", "notes.txt"]
    assert [item.video.path.name for item in found.decoded] == ["high.wav", "loud.mp4"]
    assert {item.video.path.name: item.reason for item in found.broken}["mute.mp4"] == "The file has no sound."


def test_a_copy_of_a_sound_that_is_held_back_is_left_out_and_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copy(folder / "high.wav", tmp_path / "copy.wav"))
    videos = [Video(copy, "high", "copy", "train"), Video(folder / "high.wav", "high", "high", "test")]

    found = decode_sounds(videos, RATE, tmp_path / "cache", 1)
    found.tell_broken()

    assert found.num_sounds() == {"test": 1}
    assert f"left out: {copy}: also in test, as {folder / 'high.wav'}\n" in capsys.readouterr().err


def test_parts_of_one_sound_in_two_splits_and_repeated_ones_are_warned_of(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "high.wav"
    parts = [Video(path, "high", f"part {split}", split, start, start + 0.5) for split, start in SPLIT_STARTS]

    decode_sounds(parts, RATE, tmp_path, 1).tell_broken()
    assert f"warning: 1 files have parts in several splits, such as {path}\n" in capsys.readouterr().err
    decode_sounds([parts[0], parts[0]], RATE, tmp_path, 1).tell_broken()
    assert f"warning: 1 files come more than once with the same part, such as {path}\n" in capsys.readouterr().err


def test_unlabelled_files_of_one_source_are_one_group(folder: Path) -> None:
    groups = {video.path.name: video.group for video in list_unlabelled(folder, r"\.(mp4|wav|txt)$")}

    assert groups["loud.mp4"] == groups["mute.mp4"] != groups["high.wav"]


def test_a_second_time_nothing_is_decoded_unless_another_part_is_wanted(folder: Path, tmp_path: Path) -> None:
    video = Video(folder / "loud.mp4", "", "loud")
    decode_sounds([video], RATE, tmp_path, 1)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    decode_sounds([video], RATE, tmp_path, 1)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before

    part = decode_sounds([replace(video, start_seconds=0.25, end_seconds=0.5)], RATE, tmp_path, 1)
    assert part.decoded[0].entry.num_samples == RATE // 4


def make_sounds(lengths: list[int]) -> list[CachedSound]:
    return [CachedSound("", row, "", np.full(length, row + 1, np.float32)) for row, length in enumerate(lengths)]


def test_a_part_is_drawn_by_seed_and_number_alone() -> None:
    waveform = np.arange(100, dtype=np.float32)
    sounds = [CachedSound("", 0, "", waveform)]
    parts = TrainingSounds(sounds, 10, seed=1)
    starts = [int(parts[draw][0][0]) for draw in range(20)]

    assert all(len(parts[draw][0]) == 10 for draw in range(20))
    assert [int(TrainingSounds(sounds, 10, seed=1)[draw][0][0]) for draw in range(20)] == starts
    assert len(set(starts)) > 10
    assert [int(TrainingSounds(sounds, 10, seed=2)[draw][0][0]) for draw in range(20)] != starts


def test_a_batch_is_padded_with_silence() -> None:
    waveforms, lengths, labels = collate([(sound.waveform, sound.label) for sound in make_sounds([3, 5])])
    assert waveforms.tolist() == [[1, 1, 1, 0, 0], [2, 2, 2, 2, 2]]
    assert lengths.tolist() == [3, 5]
    assert labels.tolist() == [0, 1]


def test_batches_are_alike_in_length_and_of_the_whole_epoch() -> None:
    lengths = np.random.default_rng(0).integers(100, 10_000, 400).tolist()
    sampler = DrawSampler(400, seed=0)
    batches = list(AlikeBatches(sampler, lengths, 20))

    assert sorted(draw for batch in batches for draw in batch) == list(range(400))
    spread = [max(lengths[draw] for draw in batch) - min(lengths[draw] for draw in batch) for batch in batches]
    assert float(np.mean(spread)) < 2_000  # of 9,900: chance batches of 20 spread over nine tenths of it
    sampler.set_epoch(1)
    assert [[draw - 400 for draw in batch] for batch in AlikeBatches(sampler, lengths, 20)] != batches


def test_what_fills_no_batch_is_not_always_the_longest() -> None:
    sampler, drawn = DrawSampler(100, seed=0), set()
    for epoch in range(20):  # a sound is left out of all of them once in 0.36 ** -20
        sampler.set_epoch(epoch)
        (batch,) = AlikeBatches(sampler, list(range(100)), 64)
        assert len(batch) == 64
        drawn |= {draw % 100 for draw in batch}

    assert drawn == set(range(100))


def test_fewer_sounds_than_a_batch_are_one_batch() -> None:
    assert [sorted(batch) for batch in AlikeBatches(DrawSampler(3, seed=0), [5, 6, 7], 20)] == [[0, 1, 2]]
