"""sampling=exact gives what decoding everything and picking gives, to the bit, and decodes less."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest

from app.media import packets
from app.media.probe import best_video, open_media
from app.media.request import FrameChunk, FrameSpec, MediaEvent, MediaLimits, MediaRequest, MediaSummary
from tests.media.growing import read_growing
from tests.media.reference import decode_everything, pick_rate, pick_spread, read_frames
from tests.media_maker import moving_frames, write_video

CLIPS = Path(__file__).parents[2].parent / "shared/data/clips"
SIZE = (48, 32)
RATES = (5.0, 12.5, 60.0)
LENGTHS = (1, 2, 5, 16)


@dataclass(frozen=True)
class Stream:
    """How a generated video is encoded, and what of it may be left out."""

    codec: str
    suffix: str
    options: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    decodes: Literal["less", "all", "twice"] = "less"
    """What 5 of 60 frames take: some of them, each of them, or all of them for the times and again for the frames."""


def x264(**options: str) -> dict[str, str]:
    params = ":".join(f"{name}={value}" for name, value in {"keyint": "15", "min-keyint": "15", **options}.items())
    return {"preset": "veryfast", "x264-params": params}


def x265(**options: str) -> dict[str, str]:
    params = {"keyint": "15", "min-keyint": "15", "log-level": "none", "pools": "none", "frame-threads": "1", **options}
    return {"preset": "ultrafast", "x265-params": ":".join(f"{name}={value}" for name, value in params.items())}


STREAMS = {
    "h264-no-b": Stream("libx264", ".mp4", x264(bframes="0")),
    "h264-b": Stream("libx264", ".mp4", x264(bframes="3", **{"b-adapt": "0", "b-pyramid": "none"})),
    "h264-b-pyramid": Stream("libx264", ".mp4", x264(bframes="3", **{"b-adapt": "0", "b-pyramid": "normal"})),
    "h264-one-gop": Stream("libx264", ".mp4", x264(keyint="300", bframes="2")),
    "h264-open-gop": Stream("libx264", ".mkv", x264(bframes="3", **{"open-gop": "1", "b-adapt": "0"})),
    "h264-open-gop-ts": Stream("libx264", ".ts", x264(bframes="3", **{"open-gop": "1", "b-adapt": "0"})),
    "h264-intra-refresh": Stream("libx264", ".mp4", x264(bframes="2", **{"intra-refresh": "1"})),
    "h264-ts": Stream("libx264", ".ts", x264(bframes="2")),
    "h264-flv": Stream("libx264", ".flv", x264(bframes="2")),
    "h264-avi": Stream("libx264", ".avi", x264(bframes="0")),
    "h264-raw": Stream("libx264", ".h264", x264(bframes="0"), decodes="twice"),
    "h264-raw-b": Stream("libx264", ".h264", x264(bframes="2"), decodes="twice"),
    "h264-slices": Stream("libx264", ".mkv", x264(bframes="2", slices="4")),
    "h264-interlaced": Stream("libx264", ".mp4", x264(interlaced="1", bframes="2")),
    "h264-interlaced-ts": Stream("libx264", ".ts", x264(interlaced="1", bframes="2")),
    "h264-10-bit": Stream("libx264", ".mp4", x264(bframes="2"), {"pixels": "yuv420p10le"}),
    "h264-fragmented": Stream(
        "libx264", ".mp4", x264(bframes="2"), {"container_options": {"movflags": "frag_keyframe+empty_moov"}}
    ),
    "hevc": Stream("libx265", ".mp4", x265(bframes="3")),
    "hevc-open-gop": Stream("libx265", ".mkv", x265(bframes="3", **{"open-gop": "1"})),
    "hevc-closed-gop": Stream("libx265", ".mp4", x265(bframes="3", **{"open-gop": "0"})),
    "hevc-layers": Stream("libx265", ".mkv", x265(bframes="3", **{"temporal-layers": "3"})),
    "hevc-raw": Stream("libx265", ".hevc", x265(bframes="0"), decodes="twice"),
    "vp8": Stream("libvpx", ".webm", {"g": "15", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}),
    "vp9": Stream("libvpx-vp9", ".webm", {"g": "15", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}),
    "vp9-mp4": Stream("libvpx-vp9", ".mp4", {"g": "15", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}),
    "av1": Stream("libsvtav1", ".mp4", {"preset": "12", "svtav1-params": "keyint=15:lp=1"}),
    "mpeg4": Stream("mpeg4", ".mp4", {"g": "15"}),
    "mpeg4-b": Stream("mpeg4", ".mp4", {"g": "15", "bf": "2"}),
    "mpeg4-avi": Stream("mpeg4", ".avi", {"g": "15"}),
    "mpeg4-b-avi": Stream("mpeg4", ".avi", {"g": "15", "bf": "2"}),
    "mpeg2-b": Stream("mpeg2video", ".ts", {"g": "15", "bf": "2"}),
    "mpeg2-ps": Stream("mpeg2video", ".mpg", {"g": "15", "bf": "2"}),
    "mpeg2-raw": Stream("mpeg2video", ".m2v", {"g": "15", "bf": "2"}),
    "mpeg1-ps": Stream("mpeg1video", ".mpg", {"g": "15", "bf": "2"}),
    "mxf": Stream("mpeg2video", ".mxf", {"g": "15", "bf": "2"}),
    "mjpeg": Stream("mjpeg", ".avi", {}, {"pixels": "yuvj420p"}),
    "prores": Stream("prores_ks", ".mov", {}, {"pixels": "yuv422p10le"}),
    "h263": Stream("h263", ".3gp", {"g": "15"}, decodes="all"),
    "flv1": Stream("flv", ".flv", {"g": "15"}, decodes="all"),
    "wmv2": Stream("wmv2", ".asf", {"g": "15"}, decodes="all"),
    "msmpeg4": Stream("msmpeg4", ".avi", {"g": "15"}, decodes="all"),
    "gif": Stream("gif", ".gif", {}, {"pixels": "rgb8"}, decodes="all"),
}


def check(path: Path) -> MediaSummary:
    """Compare every way to sample with the reference, and several cores with one.

    Gives back the summary of 5 spread frames alone.
    """
    whole = FrameSpec(*SIZE, clip_length=5)
    pictures, seconds, end = decode_everything(path, whole)
    with path.open("rb") as file, open_media(file, MediaLimits()) as container:
        stream = best_video(container, MediaLimits())
        assert stream is not None
        assert stream.time_base is not None
        tick = stream.time_base
    together = [FrameSpec(*SIZE, clip_length=n) for n in LENGTHS] + [FrameSpec(*SIZE, rate=rate) for rate in RATES]
    summary: Any = None
    for specs in [[whole], *([spec] for spec in together), together]:
        given, events = read_frames(path, MediaRequest(frames=tuple(specs)))
        summary = summary or events[-1]
        for spec, frames in zip(specs, given, strict=True):
            if spec.clip_length:
                picks = pick_spread(seconds, spec.clip_length)
            else:
                picks = pick_rate(seconds, end, spec.rate, tick)
            np.testing.assert_array_equal(frames, pictures[picks], err_msg=f"{path.name} {spec}")
    assert isinstance(summary, MediaSummary)
    assert_same(read_frames(path, MediaRequest(frames=tuple(together), cores=2))[1], events)  # those of `together`
    for cores in (2, 4):
        [frames], events = read_frames(path, MediaRequest(frames=(whole,), cores=cores))
        np.testing.assert_array_equal(frames, pictures[pick_spread(seconds, 5)], err_msg=f"{path.name} {cores}")
        threaded = events[-1]
        assert isinstance(threaded, MediaSummary)
        assert (threaded.frames_decoded, threaded.frames_skipped) == (summary.frames_decoded, summary.frames_skipped)
    return summary


def assert_same(events: list[MediaEvent], expected: list[MediaEvent]) -> None:
    """The same chunks for every spec, and the same MediaInfo before them."""
    assert events[0] == expected[0]
    for spec in range(len(LENGTHS) + len(RATES)):
        chunks, wanted = (
            [one for one in some if isinstance(one, FrameChunk) and one.spec == spec] for some in (events, expected)
        )
        for chunk, other in zip(chunks, wanted, strict=True):
            np.testing.assert_array_equal(chunk.times, other.times)
            np.testing.assert_array_equal(chunk.frames, other.frames)


def check_one_pass(path: Path, folder: Path) -> None:
    """Compare what is read in one pass, as of a large file or one that is still being written, with the plan."""
    for rate in RATES:
        request = MediaRequest(frames=(FrameSpec(*SIZE, rate=rate, chunk_length=7),))
        [expected], _ = read_frames(path, request)
        events = read_growing(folder / "growing", path.read_bytes(), request, at_once=True)
        frames = np.concatenate([event.frames for event in events if isinstance(event, FrameChunk)])
        np.testing.assert_array_equal(frames, expected, err_msg=f"{path.name} {rate}")


@pytest.mark.parametrize("name", STREAMS)
def test_generated(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = STREAMS[name]
    frames = moving_frames(60, *((128, 96) if stream.codec == "h263" else (96, 64)))
    path = tmp_path / f"video{stream.suffix}"
    write_video(path, frames, 25, stream.codec, options=stream.options, **stream.more)
    check_one_pass(path, tmp_path)
    decoded = check(path).frames_decoded
    monkeypatch.setattr(packets, "KEPT_BYTES", 0)  # as of a larger file, whose packets are read again
    assert check(path).frames_decoded == decoded
    assert decoded == {"less": min(decoded, 59), "all": 60, "twice": 120}[stream.decodes]


def test_times_that_the_container_rounds(tmp_path: Path) -> None:
    """To milliseconds: the third of 30 frames a second is at 0.067 s, and on display at 4/60 s all the same."""
    path = write_video(tmp_path / "video.mkv", moving_frames(30), 30, options={"g": "15"})
    check_one_pass(path, tmp_path)
    check(path)


def write_changed(source: Path, path: Path, change: Callable[[int, bytearray], None]) -> Path:
    """The video with each packet changed, by its number."""
    with av.open(str(source)) as given, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            data = bytearray(bytes(packet))
            change(number, data)
            changed = av.Packet(bytes(data))
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.duration, changed.is_keyframe, changed.stream = packet.duration, packet.is_keyframe, stream
            output.mux(changed)
    return path


def test_lossless_blocks_of_an_old_x264(tmp_path: Path) -> None:
    """They are decoded as it wrote them only by a decoder that has read the first packet, which names it."""
    options = {"x264-params": "keyint=10:min-keyint=10:scenecut=0:qp=0:8x8dct=1"}
    path = write_video(tmp_path / "v.mp4", moving_frames(60), 25, options=options)
    data = path.read_bytes()
    at = data.index(b"x264 - core ") + len(b"x264 - core ")
    path.write_bytes(data[:at] + b"148" + data[at + 3 :])
    check(path)


def test_an_encoder_that_only_the_first_packet_names(tmp_path: Path) -> None:
    """What Xvid wrote is decoded with its own inverse transform."""

    def name(number: int, data: bytearray) -> None:
        if number == 0:
            data[:0] = b"\0\0\1\xb2XviD0046"

    options = {"g": "10", "flags": "+bitexact"}
    source = write_video(tmp_path / "source.mp4", moving_frames(60), 25, "mpeg4", options=options)
    check(write_changed(source, tmp_path / "v.mp4", name))


def test_frames_that_a_key_frame_discards(tmp_path: Path) -> None:
    def discard(number: int, data: bytearray) -> None:
        """Sets no_output_of_prior_pics_flag (ITU-T H.265 7.3.6.1) of a packet that is one IDR picture."""
        if 16 <= data[4] >> 1 <= 21:
            data[6] |= 0x40

    options = x265(bframes="3", keyint="10", scenecut="0", **{"open-gop": "0", "min-keyint": "10"})
    source = write_video(tmp_path / "source.mp4", moving_frames(60), 25, "libx265", options=options)
    check(write_changed(source, tmp_path / "v.mp4", discard))


def test_the_end_of_a_sequence(tmp_path: Path) -> None:
    """After it, frames that refer to what came before are not displayed."""
    options = x265(bframes="3", keyint="10", scenecut="0", **{"open-gop": "1", "min-keyint": "10"})
    source = write_video(tmp_path / "source.mp4", moving_frames(60), 25, "libx265", options=options)
    with av.open(str(source)) as container:
        keys = [number for number, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]

    def end(number: int, data: bytearray) -> None:
        if number + 1 in keys[2:]:
            data += b"\0\0\0\2\x48\1"

    check(write_changed(source, tmp_path / "v.mp4", end))
