"""Sound in the kinds that are taken, at the rate that is asked for."""

from pathlib import Path

import av
import numpy as np
import pytest

from app.errors import InvalidMedia, MediaTooLarge, UnsupportedMedia
from app.media.decode import read_media
from app.media.request import (
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaLimits,
    MediaRequest,
    MediaSummary,
    WaveformChunk,
    WaveformSpec,
)
from tests.media.growing import read_growing
from tests.media_maker import moving_frames, sine, write_sound, write_video

RATE = 16_000


def read_waveform(
    path: Path, sample_rate: int = RATE, start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, list[WaveformChunk], MediaInfo]:
    request = MediaRequest(waveforms=(WaveformSpec(sample_rate, 3000),), start_seconds=start, end_seconds=end)
    with path.open("rb") as file:
        *events, summary = read_media(file, request)
    info = [event for event in events if isinstance(event, MediaInfo)][-1]
    chunks = [event for event in events if isinstance(event, WaveformChunk)]
    assert isinstance(summary, MediaSummary)
    waveform = np.concatenate([chunk.waveform for chunk in chunks])
    assert summary.duration_seconds == pytest.approx(len(waveform) / sample_rate)
    assert waveform.dtype == np.float32
    return waveform, chunks, info


def pitch(waveform: np.ndarray, sample_rate: int = RATE) -> float:
    """The strongest frequency, Hz, to the nearest bin."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum)) * sample_rate / len(waveform)


@pytest.mark.parametrize(
    ("codec", "suffix", "sample_rate"),
    [
        ("pcm_s16le", ".wav", 16_000),
        ("pcm_u8", ".wav", 8000),
        ("pcm_s24le", ".wav", 48_000),
        ("pcm_f32le", ".wav", 44_100),
        ("pcm_mulaw", ".wav", 8000),
        ("flac", ".flac", 44_100),
        ("flac", ".ogg", 48_000),
        ("libmp3lame", ".mp3", 44_100),
        ("aac", ".m4a", 44_100),
        ("aac", ".aac", 44_100),
        ("alac", ".m4a", 44_100),
        ("ac3", ".mkv", 48_000),
        ("libopus", ".ogg", 48_000),
        ("libopus", ".webm", 48_000),
        ("wmav2", ".asf", 44_100),
        ("libopencore_amrnb", ".3gp", 8000),
        ("mp2", ".mpg", 44_100),
    ],
)
def test_every_kind_of_sound(tmp_path: Path, codec: str, suffix: str, sample_rate: int) -> None:
    bit_rate = 64_000 if codec == "wmav2" else None
    path = write_sound(tmp_path / f"sound{suffix}", sine(1.0, sample_rate), sample_rate, codec, bit_rate=bit_rate)
    waveform, _, info = read_waveform(path)
    assert info.has_audio
    assert info.video_codec is None
    # Encoders add up to two frames of their own (AAC, MP3: 1024 and 1152 samples), unless the container tells of them.
    assert len(waveform) == pytest.approx(RATE, abs=2 * 1152 * RATE / sample_rate + 2)
    middle = waveform[4000:12_000]
    assert pitch(middle) == pytest.approx(440, abs=2 * RATE / len(middle))
    # AMR models a voice: it renders the sine 13 % too soft. All others are within 1 %.
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.15)


def test_pcm_at_its_own_rate_is_not_changed(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, 5000).astype(np.float32) / 32768
    waveform, chunks, _ = read_waveform(write_sound(tmp_path / "s.wav", samples, RATE))
    np.testing.assert_allclose(waveform, samples, rtol=0, atol=1.5 / 32768)  # the encoder rounds to 16 bits
    assert [len(chunk.waveform) for chunk in chunks] == [3000, 2000]
    assert [chunk.start_seconds for chunk in chunks] == [0.0, 3000 / RATE]


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_mixed_to_one_without_clipping(tmp_path: Path, channels: int) -> None:
    loud = np.stack([sine(0.5, RATE, volume=0.99)] * channels)
    waveform, *_ = read_waveform(write_sound(tmp_path / "s.wav", loud, RATE))
    assert pitch(waveform[:8000]) == pytest.approx(440, abs=2 * RATE / 8000)
    assert 0.6 < np.abs(waveform).max() < 0.9999


def test_two_rates_from_one_decode(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", sine(1.0, 44_100), 44_100)
    request = MediaRequest(waveforms=(WaveformSpec(16_000, 20_000), WaveformSpec(8000, 20_000)))
    with path.open("rb") as file:
        chunks = [event for event in read_media(file, request) if isinstance(event, WaveformChunk)]
    assert {chunk.spec: len(chunk.waveform) for chunk in chunks} == {0: 16_000, 1: 8000}


@pytest.mark.parametrize(
    ("start", "end", "samples"),
    [(0.25, 0.5, (4000, 8000)), (None, 0.1, (0, 1600)), (0.9, 5.0, (14_400, 16_000)), (None, 1e306, (0, 16_000))],
)
def test_only_the_part_that_was_asked_for(
    tmp_path: Path, start: float | None, end: float, samples: tuple[int, int]
) -> None:
    path = write_sound(tmp_path / "s.wav", np.linspace(-0.9, 0.9, RATE, dtype="f4"), RATE)
    whole, *_ = read_waveform(path)
    part, chunks, _ = read_waveform(path, start=start, end=end)
    np.testing.assert_array_equal(part, whole[slice(*samples)])
    assert chunks[0].start_seconds == pytest.approx(start or 0.0)


def test_a_part_beyond_the_end(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", sine(0.5, RATE), RATE)
    with pytest.raises(InvalidMedia, match=r"nothing from 2 s to 3 s: the file lasts 0\.500 s"):
        read_waveform(path, start=2.0, end=3.0)
    with pytest.raises(InvalidMedia, match=r"nothing from 1e\+306 s to the end"):
        read_waveform(path, start=1e306)


def test_sound_counts_from_the_first_frame_of_the_video(tmp_path: Path) -> None:
    beep = np.concatenate([np.zeros(RATE, np.float32), sine(1.0, RATE)])
    path = write_video(tmp_path / "v.mkv", moving_frames(50), 25, waveform=beep, sound_codec="flac")
    request = MediaRequest(
        frames=(FrameSpec(32, 32, clip_length=2),), waveforms=(WaveformSpec(RATE, RATE),), start_seconds=1.0
    )
    with path.open("rb") as file:
        events = list(read_media(file, request))
    [sound] = [event for event in events if isinstance(event, WaveformChunk)]
    assert sound.start_seconds == pytest.approx(1.0)
    assert np.abs(sound.waveform[100:200]).max() > 0.4


@pytest.fixture
def cut_recording(tmp_path: Path) -> Path:
    """A beep a second after a picture that begins 17 frames before any of it can be displayed."""
    beep = np.concatenate([np.zeros(2 * RATE, np.float32), sine(1.0, RATE), np.zeros(RATE, np.float32)])
    options = {"x264-params": "keyint=25:min-keyint=25:scenecut=0:bframes=0"}
    frames = moving_frames(100)
    whole = write_video(tmp_path / "whole.ts", frames, 25, options=options, waveform=beep, sound_codec="mp2")
    with av.open(str(whole)) as recording, av.open(str(tmp_path / "cut.ts"), "w") as output:
        packets = [packet for packet in recording.demux() if packet.size and packet.pts is not None]
        copies = {stream: output.add_stream_from_template(stream) for stream in recording.streams}
        start = recording.streams.video[0].start_time + 8 * 3600
        kept = [packet for packet in packets if packet.pts >= start]
        for packet in sorted(kept, key=lambda packet: packet.dts or 0):  # one after the other, as they were recorded
            packet.stream = copies[packet.stream]
            output.mux(packet)
    return tmp_path / "cut.ts"


def first_beep(events: list[MediaEvent]) -> float:
    """When it is heard."""
    chunks = [event for event in events if isinstance(event, WaveformChunk)]
    waveform = np.concatenate([chunk.waveform for chunk in chunks])
    return chunks[0].start_seconds + float(np.argmax(np.abs(waveform) > 0.1)) / RATE


def test_sound_alone_counts_from_the_first_frame_that_is_displayed(cut_recording: Path, tmp_path: Path) -> None:
    sound = WaveformSpec(RATE, 800)
    alone = MediaRequest(waveforms=(sound,))
    requests = (alone, MediaRequest(frames=(FrameSpec(32, 32, clip_length=2),), waveforms=(sound,)))
    for request in requests:
        with cut_recording.open("rb") as file:
            assert first_beep(list(read_media(file, request))) == pytest.approx(1.0, abs=0.03)
    for at_once in (False, True):
        events = list(read_growing(tmp_path / "growing", cut_recording.read_bytes(), alone, at_once=at_once))
        assert first_beep(events) == pytest.approx(1.0, abs=0.03)


def test_sound_beside_a_picture_that_cannot_be_displayed(tmp_path: Path) -> None:
    """It counts from its own beginning; what is told of it holds up to the service's own check."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as output:
        picture = output.add_stream("mjpeg", rate=25)
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuvj420p"  # type: ignore[attr-defined]
        stream = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((sine(2.0, RATE)[None] * 32767).astype("i2"), "s16", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux([*stream.encode(frame), *stream.encode()])  # type: ignore[arg-type]
        packet = av.Packet(bytes(100))
        packet.stream, packet.pts, packet.dts = picture, 125, 125
        output.mux(packet)
    waveform, chunks, info = read_waveform(path)
    assert (len(waveform), chunks[0].start_seconds, info.duration_seconds) == (2 * RATE, 0.0, 2.0)


@pytest.mark.parametrize(
    ("codec", "kind", "full_scale", "zero"), [("pcm_s16le", "i2", 32767, 0), ("pcm_u8", "u1", 127, 128)]
)
def test_a_gap_in_the_time_stamps_is_silence(tmp_path: Path, codec: str, kind: str, full_scale: int, zero: int) -> None:
    path = tmp_path / "gap.mkv"
    samples = sine(1.0, RATE)[None] * full_scale + zero
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=RATE, layout="mono")
        for start in (0, 2 * RATE):
            frame = av.AudioFrame.from_ndarray(samples.astype(kind), "u8" if kind == "u1" else "s16", "mono")
            frame.sample_rate, frame.pts = RATE, start
            output.mux(stream.encode(frame))  # type: ignore[arg-type]
        output.mux(stream.encode())
    waveform, *_ = read_waveform(path)
    assert len(waveform) == 3 * RATE
    assert not waveform[RATE + 10 : 2 * RATE - 10].any()
    assert np.abs(waveform[2 * RATE + 10 :]).max() > 0.4


def test_nothing_is_lost_where_the_sample_rate_changes(tmp_path: Path) -> None:
    path, rates = tmp_path / "s.aac", (44_100, 32_000)
    parts = [write_sound(tmp_path / f"{rate}.aac", sine(1.0, rate), rate, "aac").read_bytes() for rate in rates]
    path.write_bytes(b"".join(parts))
    with av.open(str(path)) as container:
        seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    waveform, *_ = read_waveform(path)
    assert len(waveform) == pytest.approx(seconds * RATE, abs=3)  # each part is rounded to whole samples


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    samples = sine(0.5, RATE)
    samples[4000] = value
    path = write_sound(tmp_path / "s.wav", samples, RATE, "pcm_f32le")
    for sample_rate in (RATE, 8000):
        with pytest.raises(InvalidMedia, match="not finite"):
            read_waveform(path, sample_rate)


def test_samples_beyond_full_scale_are_limited(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", sine(0.5, RATE, volume=3.0), RATE, "pcm_f32le")
    waveform, *_ = read_waveform(path)
    assert (waveform.min(), waveform.max()) == (-1.0, 1.0)


def test_too_long(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", sine(3.0, 8000), 8000)
    with path.open("rb") as file, pytest.raises(MediaTooLarge, match="limit is 2 s"):
        list(read_media(file, MediaRequest(waveforms=(WaveformSpec(8000, 800),)), MediaLimits(max_duration_seconds=2)))


def test_a_codec_that_is_not_taken(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "s.wav", sine(0.5, RATE), RATE, "adpcm_ima_wav")
    with pytest.raises(UnsupportedMedia, match="sound codec adpcm_ima_wav is not supported"):
        read_waveform(path)


def test_a_sound_lasts_as_long_as_it_is_heard(tmp_path: Path) -> None:
    """The header of ADTS has no duration, and FFmpeg's guess from the first packets is 0.1 s off."""
    waveform, _, info = read_waveform(write_sound(tmp_path / "s.aac", sine(7.3, RATE), RATE, "aac"))
    assert info.duration_seconds == pytest.approx(len(waveform) / RATE, abs=1e-3)


def test_of_a_part_that_holds_no_sample_no_length_is_told(tmp_path: Path) -> None:
    """For it is known before the end of the file is."""
    path = write_sound(tmp_path / "s.wav", sine(3.0, RATE), RATE)
    with pytest.raises(InvalidMedia, match=r"^There is nothing from 2 s to 2\.00001 s\.$"):
        read_waveform(path, start=2.0, end=2.00001)
    with pytest.raises(InvalidMedia, match=r"the file lasts 3\.000 s"):
        read_waveform(path, start=4.0)
