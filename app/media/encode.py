"""Frames -> bytes of a PNG, MP4 or GIF, in memory: nothing is written to disk, and only our own frames come here."""

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

BORDER = 2  # pixels on each side
MARK = (255, 96, 0)  # RGB, orange: around what is predicted
NO_MARK = (0, 0, 0)
_MAX_DENOMINATOR = 1000  # of a frame rate: 29.97 is 30000/1001 to within 1e-5

Frames = NDArray[np.uint8]


def encode_png(frame: Frames) -> bytes:
    """The frame (H, W, 3) RGB without loss."""
    encoder = av.CodecContext.create("png", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width = frame.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 1)
    packets = [*encoder.encode(VideoFrame.from_ndarray(frame, "rgb24")), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def mark_predicted(observed: Frames, predicted: Frames) -> Frames:
    """(T, H', W', 3): what was observed, then what is predicted, each in a border whose colour tells them apart.

    The border is BORDER pixels wide, one more at the right and the bottom where that makes the size even.
    """
    height, width = observed.shape[1:3]
    framed_height, framed_width = height + height % 2 + 2 * BORDER, width + width % 2 + 2 * BORDER
    framed = np.empty((len(observed) + len(predicted), framed_height, framed_width, 3), np.uint8)
    framed[: len(observed)], framed[len(observed) :] = NO_MARK, MARK
    framed[:, BORDER : BORDER + height, BORDER : BORDER + width] = np.concatenate([observed, predicted])
    return framed


def encode_mp4(frames: Frames, rate: float, metadata: Mapping[str, str]) -> bytes:
    """The frames (T, H, W, 3), of even height and width, as H.264 that every browser plays."""
    output = io.BytesIO()
    with av.open(output, "w", format="mp4") as container:
        container.metadata.update(metadata)
        options = {"crf": "16", "preset": "veryfast", "threads": "1"}
        stream = _add_stream(container, "libx264", "yuv420p", frames, rate, options)
        for frame in _as_video_frames(frames, rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return output.getvalue()


def encode_gif(frames: Frames, rate: float) -> bytes:
    """The frames (T, H, W, 3), with a palette of their own colours; GIF counts time in 0.01 s."""
    output = io.BytesIO()
    with av.open(output, "w", format="gif") as container:
        stream = _add_stream(container, "gif", "pal8", frames, rate, {})
        for frame in _reduce_colours(frames, rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return output.getvalue()


def _add_stream(
    container: OutputContainer, codec: str, pixels: str, frames: Frames, rate: float, options: dict[str, str]
) -> VideoStream:
    stream = container.add_stream(codec, rate=_rate(rate), options=options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = pixels
    return stream


def _rate(rate: float) -> Fraction:
    return Fraction(rate).limit_denominator(_MAX_DENOMINATOR)


def _as_video_frames(frames: Frames, rate: float) -> Iterator[VideoFrame]:
    for number, picture in enumerate(frames):
        frame = VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = number, 1 / _rate(rate)
        yield frame


def _reduce_colours(frames: Frames, rate: float) -> Iterator[VideoFrame]:
    """The frames in 256 colours chosen for all of them: https://ffmpeg.org/ffmpeg-filters.html#paletteuse"""
    graph = Graph()
    height, width = frames.shape[1:3]
    source = graph.add_buffer(width=width, height=height, format=VideoFormat("rgb24"), time_base=1 / _rate(rate))
    split, choose, use = graph.add("split"), graph.add("palettegen"), graph.add("paletteuse")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for frame in _as_video_frames(frames, rate):
        source.push(frame)
    source.push(None)
    for _ in frames:
        reduced = sink.pull()
        assert isinstance(reduced, VideoFrame)
        yield reduced
