"""Single pictures, each a packet for its decoder: no demuxer ever sees them."""

import struct
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from app.errors import InvalidMedia, UnsupportedMedia
from app.media.frames import MAX_CHUNK_BYTES
from app.media.probe import Readable, decoder_options
from app.media.request import FrameChunk, FrameSpec, MediaLimits, MediaRequest, MediaSummary
from app.media.scaling import FrameScaler

_LENGTH = struct.Struct("<I")  # bytes of the picture that follows


def pack_pictures(pictures: Iterable[bytes]) -> bytes:
    """The pictures as one file for `read_pictures`."""
    return b"".join(part for picture in pictures for part in (_LENGTH.pack(len(picture)), picture))


def picture_decoder(picture: bytes) -> str | None:
    """The name of the decoder for a JPEG, PNG or WebP picture; None for anything else."""
    if picture.startswith(b"\xff\xd8\xff"):
        return "mjpeg"
    if picture.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if picture.startswith(b"RIFF") and picture[8:12] == b"WEBP":
        return "webp"
    return None


def read_pictures(file: Readable, request: MediaRequest, limits: MediaLimits) -> Iterator[FrameChunk | MediaSummary]:
    """The pictures as frames at time 0, of the size that the first has where a spec has none; then MediaSummary.

    Raises UnsupportedMedia for another kind of picture, InvalidMedia for one that does not decode or is too large.
    """
    gathered = [_Gathered(number, spec) for number, spec in enumerate(request.frames)]
    num_pictures = 0
    for picture in _unpack(file):
        frame = _decode(picture, limits)
        for frames in gathered:
            yield from frames.add(frame)
        num_pictures += 1
    for frames in gathered:
        yield from frames.finish()
    yield MediaSummary(0.0, num_pictures, 0, "exact", 0.0, 0.0)


class _Gathered:
    """The frames of one spec. They go in chunks: a message to the service costs as much as a small picture."""

    def __init__(self, number: int, spec: FrameSpec) -> None:
        self._number = number
        self._spec = spec
        self._scaler: FrameScaler | None = None
        self._frames: list[NDArray[np.uint8]] = []  # (H, W, 3) each

    def add(self, frame: VideoFrame) -> Iterator[FrameChunk]:
        if self._scaler is None:
            self._scaler = FrameScaler(self._spec, frame, None)
        width, height = self._scaler.size
        scaled = np.empty((height, width, 3), np.uint8)
        self._scaler.scale(frame, scaled)
        self._frames.append(scaled)
        if len(self._frames) >= min(self._spec.chunk_length, MAX_CHUNK_BYTES // scaled.nbytes):
            yield from self.finish()

    def finish(self) -> Iterator[FrameChunk]:
        if self._frames:
            yield FrameChunk(self._number, np.stack(self._frames), np.zeros(len(self._frames)))
            self._frames = []


def _unpack(file: Readable) -> Iterator[bytes]:
    while prefix := file.read(_LENGTH.size):
        yield file.read(_LENGTH.unpack(prefix)[0])


def _decode(picture: bytes, limits: MediaLimits) -> VideoFrame:
    name = picture_decoder(picture)
    if name is None:
        raise UnsupportedMedia("The picture is not a JPEG, PNG or WebP.")
    decoder = VideoCodecContext.create(name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.options = {**decoder_options(limits), "err_detect": "explode"}
    decoder.thread_count = 1
    try:
        frames = [*decoder.decode(Packet(picture)), *decoder.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise InvalidMedia(f"The picture cannot be decoded, or has more than {limits.max_pixels} pixels.") from error
    if not frames or frames[0].is_corrupt:
        raise InvalidMedia("The picture cannot be decoded.")
    return frames[0]
