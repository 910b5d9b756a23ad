"""What real files do with their times, streams and sizes."""

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from app.errors import InvalidMedia, MediaTooLarge, UnsupportedMedia
from app.media.decode import read_media
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaInfo,
    MediaLimits,
    MediaRequest,
    MediaSummary,
    WaveformSpec,
)
from tests.media.reference import decode_everything, pick_spread, read_frames
from tests.media_maker import moving_frames, sine, write_sound, write_video

SPEC = FrameSpec(48, 32, clip_length=5)


def grey_frames(*levels: int) -> np.ndarray:
    """(N, 32, 48, 3): a frame of each level."""
    return np.stack([np.full((32, 48, 3), level, np.uint8) for level in levels])


def levels(frames: np.ndarray) -> list[int]:
    """The mean of each frame, rounded to the nearest ten: what `grey_frames` was given."""
    return [round(float(frame.mean()) / 10) * 10 for frame in frames]


def read_one(path: Path, **asked: Any) -> tuple[np.ndarray, list[Any]]:
    [frames], events = read_frames(path, MediaRequest(frames=(asked.pop("spec", SPEC),), **asked))
    return frames, events


def test_events_come_in_order_and_say_what_the_file_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", moving_frames(50), 25, waveform=sine(2.0, 16_000))
    request = MediaRequest(frames=(SPEC, FrameSpec(40, 40, rate=10.0, chunk_length=8)))
    with path.open("rb") as file:
        first, *chunks, last = read_media(file, request)
    assert first == MediaInfo(2.0, 96, 64, 25.0, "h264", "aac", True)
    assert {type(chunk) for chunk in chunks} == {FrameChunk}
    assert [len(chunk.frames) for chunk in chunks if chunk.spec == 1] == [8, 8, 4]
    times = np.concatenate([chunk.times for chunk in chunks if chunk.spec == 1])
    np.testing.assert_allclose(times, np.arange(20) / 10, rtol=0, atol=1e-12)
    np.testing.assert_allclose(chunks[-1].times, np.linspace(0, 1.96, 5), rtol=0, atol=1e-12)
    assert isinstance(last, MediaSummary)
    assert (last.duration_seconds, last.sampling, last.queue_seconds) == (2.0, "exact", 0.0)
    seconds = [0.0, *(chunk.decode_seconds for chunk in chunks), last.decode_seconds]
    assert seconds == sorted(set(seconds))


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".mp4", ".ts"])
def test_the_frame_rate_is_the_mean_whatever_the_header_says(tmp_path: Path, suffix: str) -> None:
    """Twenty frames in two seconds, then ten in five: the header says 10 a second, or 4.84."""
    pts = [*range(20), *range(24, 74, 5)]
    _, (info, *_) = read_one(write_video(tmp_path / f"v{suffix}", moving_frames(30), 10, pts=pts))
    assert (info.duration_seconds, info.frame_rate) == (pytest.approx(7.0), pytest.approx(30 / 7))


def test_a_frame_rate_below_zero_is_none(tmp_path: Path) -> None:
    """The service would take it for a lie of the decoder, and end that."""
    content = write_video(tmp_path / "v.flv", moving_frames(5), 25, "flv").read_bytes()
    value = content.index(b"framerate") + len("framerate") + 1
    content = content[:value] + struct.pack(">d", -25.0) + content[value + 8 :]
    [info, _] = read_media(io.BytesIO(content), MediaRequest())
    assert isinstance(info, MediaInfo)
    assert (info.video_codec, info.frame_rate) == ("flv1", None)


def test_variable_frame_rate_goes_by_presentation_time(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    pts = [0, 100, 200, 1000, 1100, 2000]
    write_video(path, grey_frames(50, 80, 110, 140, 170, 200), 10, pts=pts, time_base=Fraction(1, 1000))
    assert levels(read_one(path, spec=FrameSpec(48, 32, clip_length=3))[0]) == [50, 140, 200]
    by_rate = read_one(path, spec=FrameSpec(48, 32, rate=2.5))[0]
    assert levels(by_rate)[:6] == [50, 110, 110, 170, 170, 200]  # at 0, 0.4, 0.8, 1.2, 1.6 and 2 s


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts", ".flv"])
@pytest.mark.parametrize("first", [-200, 0, 10_000])
def test_times_count_from_the_first_displayed_frame(tmp_path: Path, suffix: str, first: int) -> None:
    path = tmp_path / f"v{suffix}"
    write_video(
        path,
        grey_frames(50, 80, 110, 140, 170),
        10,
        pts=[first + 100 * k for k in range(5)],
        time_base=Fraction(1, 1000),
        options={"bf": "0"},
        container_options={"avoid_negative_ts": "disabled"} if first < 0 and suffix != ".flv" else {},
    )
    frames, events = read_one(path)
    shown = levels(decode_everything(path, SPEC)[0])  # a decoder does not show all of what lies before 0
    assert shown[-1] == 170
    assert levels(frames)[0] == shown[0]
    assert levels(frames)[-1] == 170
    assert events[-1].duration_seconds == pytest.approx(0.1 * len(shown), abs=1e-3)  # FLV and Matroska: whole ms


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(None, None, [50, 110, 170]), (0.1, 0.4, [80, 110, 140]), (0.4, None, [170] * 3), (0.25, 0.26, [110] * 3)],
)
def test_only_the_part_that_was_asked_for(
    tmp_path: Path, start: float | None, end: float | None, expected: list[int]
) -> None:
    path = write_video(tmp_path / "v.mp4", grey_frames(50, 80, 110, 140, 170), 10)
    spec = FrameSpec(48, 32, clip_length=3)
    frames, events = read_one(path, spec=spec, start_seconds=start, end_seconds=end)
    assert levels(frames) == expected
    assert events[-1].duration_seconds == pytest.approx((0.5 if end is None else end) - (start or 0.0))


def test_the_rate_counts_from_the_start_of_the_part(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", grey_frames(50, 80, 110, 140, 170), 10)
    spec = FrameSpec(48, 32, rate=10.0)
    frames, events = read_one(path, spec=spec, start_seconds=0.15, end_seconds=0.4)
    assert levels(frames) == [80, 110, 140]
    np.testing.assert_allclose(events[1].times, [0.15, 0.25, 0.35])


def test_a_part_beyond_the_end_is_refused_with_the_duration(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", grey_frames(50, 80, 110, 140, 170), 10)
    with pytest.raises(InvalidMedia, match=r"nothing from 3 s to the end: the file lasts 0\.500 s"):
        read_one(path, start_seconds=3.0)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", grey_frames(120), 10)
    frames, events = read_one(path)
    assert levels(frames) == [120] * 5
    assert events[-1].duration_seconds == pytest.approx(0.1)
    assert levels(read_one(path, spec=FrameSpec(48, 32, rate=30.0))[0]) == [120] * 3


def test_a_change_of_size_in_mid_stream(tmp_path: Path) -> None:
    path = tmp_path / "v.ts"
    parts = []
    for number, (width, height) in enumerate([(96, 64), (64, 96)]):
        part = tmp_path / f"{number}.ts"
        frames = np.full((10, height, width, 3), 80 + 80 * number, np.uint8)
        pts = [1000 * number + 100 * k for k in range(10)]
        write_video(part, frames, 10, pts=pts, time_base=Fraction(1, 1000), options={"bf": "0"})
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    frames, events = read_one(path, spec=FrameSpec(0, 0, fit="keep", clip_length=4))
    assert frames.shape == (4, 64, 96, 3)
    assert levels(frames) == [80, 80, 160, 160]
    assert events[-1].duration_seconds == pytest.approx(2.0)


def test_the_largest_of_several_videos_is_used_unless_another_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    for default, expected in ((0, 160), (1, 80)):
        with av.open(str(path), "w") as output:
            streams: list[Any] = []
            for number, size in enumerate([(96, 64), (48, 32)]):
                stream: Any = output.add_stream("libx264", rate=10)
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.disposition = int(number == default)
                streams.append(stream)
            for number, level in enumerate((160, 80)):
                for _ in range(3):
                    picture = np.full((streams[number].height, streams[number].width, 3), level, np.uint8)
                    output.mux(streams[number].encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
                output.mux(streams[number].encode())
        assert set(levels(read_one(path)[0])) == {expected}


def test_cover_art_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "cover.mp3"
    with av.open(str(path), "w") as output:
        sound: Any = output.add_stream("libmp3lame", rate=16_000, layout="mono")
        cover: Any = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 48, 32, "yuvj420p", 1 << 10
        output.mux(cover.encode(av.VideoFrame.from_ndarray(grey_frames(90)[0], "rgb24")))
        output.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(sine(1.0, 16_000)[None], "fltp", "mono")
        frame.sample_rate = 16_000
        output.mux(sound.encode(frame))
        output.mux(sound.encode())
    with pytest.raises(InvalidMedia, match="no moving picture"):
        read_one(path)
    with path.open("rb") as file:
        info = next(read_media(file, MediaRequest(waveforms=(WaveformSpec(16_000, 4000),))))
    assert isinstance(info, MediaInfo)
    assert (info.video_codec, info.width, info.audio_codec) == (None, None, "mp3")


def test_an_animated_gif(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.gif", grey_frames(50, 80, 110, 140, 170), 10, "gif", pixels="gray")
    frames, events = read_one(path)
    assert levels(frames) == [50, 80, 110, 140, 170]
    assert events[0].video_codec == "gif"


@pytest.mark.parametrize("cut", [0.4, 0.7, 0.9])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_a_truncated_file_gives_what_is_there(tmp_path: Path, suffix: str, cut: float) -> None:
    path = tmp_path / f"v{suffix}"
    moved = {"movflags": "faststart"} if suffix == ".mp4" else {}
    options = {"g": "10", "bf": "0" if suffix == ".avi" else "2"}
    write_video(path, moving_frames(60), 25, options=options, container_options=moved)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    pictures, seconds, _ = decode_everything(path, SPEC)
    assert 0 < len(pictures) < 60
    np.testing.assert_array_equal(read_one(path)[0], pictures[pick_spread(seconds, 5)])


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_begins_in_the_middle(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "v.ts"
    write_video(path, moving_frames(60), 25, codec, options={"g": "20", "bf": "2"})
    whole = path.read_bytes()
    path.write_bytes(whole[188 * (len(whole) // 188 // 3) :])
    pictures, seconds, _ = decode_everything(path, SPEC)
    assert 0 < len(pictures) < 60
    frames, events = read_one(path)
    np.testing.assert_array_equal(frames, pictures[pick_spread(seconds, 5)])
    assert events[-1].frames_decoded <= len(pictures) + 1  # decoded once, not once more for the times
    part, events = read_one(path, start_seconds=1.0)
    later = [number for number, time in enumerate(seconds) if time >= 1]
    np.testing.assert_array_equal(part[[0, -1]], pictures[[later[0], later[-1]]])
    assert events[-1].duration_seconds == pytest.approx(float(seconds[-1]) - 1 + 0.04)


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    write_video(path, moving_frames(60), 25, options={"g": "10"})
    data = bytearray(path.read_bytes())
    random = np.random.default_rng(0)
    for at in random.integers(len(data) // 3, len(data) // 2, 40):
        data[at] ^= 0xFF
    path.write_bytes(data)
    pictures, seconds, _ = decode_everything(path, SPEC)
    assert len(pictures) > 20
    frames, _ = read_one(path)
    np.testing.assert_array_equal(frames, pictures[pick_spread(seconds, 5)])
    by_rate, events = read_one(path, spec=FrameSpec(48, 32, rate=25.0))
    assert len(by_rate) >= len(pictures)
    info = [event for event in events if isinstance(event, MediaInfo)][-1]
    assert info.frame_rate * info.duration_seconds == pytest.approx(len(pictures))


@pytest.mark.parametrize("spec", [FrameSpec(512, 512, clip_length=60), FrameSpec(0, 0, fit="keep", clip_length=300)])
def test_more_frames_than_are_held_back(tmp_path: Path, spec: FrameSpec) -> None:
    """47 MB and 69 MB of them: given from a full decode, chunk by chunk."""
    path = write_video(tmp_path / "v.mp4", moving_frames(20, 320, 240), 25, options={"bf": "2"})
    frames, events = read_one(path, spec=spec)
    pictures, seconds, _ = decode_everything(path, spec)
    np.testing.assert_array_equal(frames, pictures[pick_spread(seconds, spec.clip_length)])
    assert max(event.frames.nbytes for event in events if isinstance(event, FrameChunk)) <= 16 << 20


def test_a_full_decode_ends_with_the_part_that_was_asked_for(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.h264", moving_frames(60), 25, options={"bf": "0"})
    _, events = read_one(path, end_seconds=0.4)
    assert events[-1].frames_decoded == 60 + 10  # all for the times, which a raw stream does not tell


class TestFast:
    def test_takes_the_nearest_key_frames(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", moving_frames(60), 25, options={"g": "10", "bf": "2"})
        frames, events = read_one(path, sampling="fast")
        pictures, *_ = decode_everything(path, SPEC)
        # Moments 0, 14.75, 29.5, 44.25, 59 frames in; key frames every 10.
        np.testing.assert_array_equal(frames, pictures[[0, 10, 30, 40, 50]])
        assert events[-1].sampling == "fast"
        assert events[-1].frames_decoded == 5
        assert events[-1].frames_skipped == 55

    def test_takes_key_frames_of_the_part_alone(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", moving_frames(60), 25, options={"g": "10", "bf": "2"})
        frames, events = read_one(path, sampling="fast", start_seconds=0.48, end_seconds=2.08)
        pictures, *_ = decode_everything(path, SPEC)
        # Moments 12, 21.75, 31.5, 41.25, 51 frames in; key frames from 20 to 50.
        np.testing.assert_array_equal(frames, pictures[[20, 20, 30, 40, 50]])
        assert events[-1].sampling == "fast"

    def test_is_exact_where_key_frames_are_too_few(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", moving_frames(60), 25, options={"g": "30"})
        frames, events = read_one(path, sampling="fast")
        np.testing.assert_array_equal(frames, read_one(path)[0])
        assert events[-1].sampling == "exact"

    def test_does_not_touch_frames_at_a_rate(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", moving_frames(60), 25, options={"g": "10"})
        rate = FrameSpec(48, 32, rate=5.0)
        [_, fast], _ = read_frames(path, MediaRequest(frames=(SPEC, rate), sampling="fast"))
        np.testing.assert_array_equal(fast, read_one(path, spec=rate)[0])


class TestRefused:
    def test_too_long(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", grey_frames(50, 80, 110, 140, 170), 1)
        with path.open("rb") as file, pytest.raises(MediaTooLarge, match=r"lasts 5\.0 s; the limit is 4 s"):
            list(read_media(file, MediaRequest(frames=(SPEC,)), MediaLimits(max_duration_seconds=4.0)))

    def test_too_many_pixels(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", grey_frames(50), 1)
        with path.open("rb") as file, pytest.raises(MediaTooLarge, match=r"48 x 32 pixels; the limit is 1000"):
            list(read_media(file, MediaRequest(frames=(SPEC,)), MediaLimits(max_pixels=1000)))

    @pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".mkv"), ("magicyuv", ".avi")])
    def test_a_codec_that_is_not_taken(self, tmp_path: Path, codec: str, suffix: str) -> None:
        path = write_video(tmp_path / f"v{suffix}", moving_frames(3), 10, codec)
        with pytest.raises(UnsupportedMedia, match=f"video codec {codec} is not supported"):
            read_one(path)

    def test_a_container_that_is_not_taken(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.nut", moving_frames(3), 10)
        with pytest.raises(UnsupportedMedia, match="not of a supported kind"):
            read_one(path)

    def test_a_picture_where_there_is_only_sound(self, tmp_path: Path) -> None:
        path = write_sound(tmp_path / "v.wav", sine(0.5, 16_000), 16_000)
        with pytest.raises(InvalidMedia, match="no moving picture"):
            read_one(path)

    def test_sound_where_there_is_only_a_picture(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", moving_frames(5), 10)
        waveform = WaveformSpec(16_000, 4000)
        for request in (MediaRequest(waveforms=(waveform,)), MediaRequest(frames=(SPEC,), waveforms=(waveform,))):
            with path.open("rb") as file, pytest.raises(InvalidMedia, match="no sound"):
                list(read_media(file, request))

    def test_an_empty_file(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.mp4"
        path.touch()
        with pytest.raises(InvalidMedia, match="empty"):
            read_one(path)

    def test_a_still_image(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.png", moving_frames(1), 1, "png", container="image2pipe", pixels="rgb24")
        with pytest.raises(UnsupportedMedia, match="not of a supported kind"):
            read_one(path)
