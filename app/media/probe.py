"""Opens bytes of unknown origin so that FFmpeg reads nothing else, and says what is in them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import SEEK_END
from typing import BinaryIO, Protocol

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from app.errors import InvalidMedia, MediaTooLarge, UnsupportedMedia
from app.media.kinds import AUDIO_DECODERS, DEMUXERS, VIDEO_DECODERS, is_known_kind
from app.media.request import MediaInfo, MediaLimits
from app.media.socket_file import SocketFile

_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_READ_BYTES = 1 << 16  # one call into Python per 64 KiB
_HEAD_BYTES = 16
_PROBE_BYTES = str(1 << 18)  # of what is arriving; at FFmpeg's 5 MB, a slow stream would be known after minutes


class Readable(Protocol):
    """What FFmpeg is given to read from. It has no `name`: with one, FFmpeg opens what a playlist names."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


class _Nameless:
    def __init__(self, file: BinaryIO | Readable) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


@contextmanager
def open_media(
    file: BinaryIO | Readable | SocketFile, limits: MediaLimits, *, probe: bool = True
) -> Iterator[InputContainer]:
    """The opened file, with demuxers, decoders, streams and pixels held to what is allowed.

    Of a SocketFile it waits until enough has come to know the streams. Without `probe`, no frame of H.264 is decoded
    only to learn what the header leaves open: the shape of its pixels, and how far frames are reordered where it does
    not say. That frame is a twentieth of what a clip of ten seconds takes.
    Raises UnsupportedMedia for another kind of file, InvalidMedia for a damaged one, MediaTooLarge over a limit.
    """
    more_options = {} if probe else {"skip_frame": "all"}
    if isinstance(file, SocketFile):
        head = file.peek(_HEAD_BYTES)
        readable: _Nameless | SocketFile = file
        more_options["probesize"] = _PROBE_BYTES
    else:
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        readable = _Nameless(file)
    if not head:
        raise InvalidMedia("The file is empty.")
    try:
        container = av.open(
            readable,
            mode="r",
            options={
                # FFmpeg takes a misspelt option in silence: tests/media/test_hostile.py shows that these hold.
                "protocol_whitelist": "none",
                "format_whitelist": ",".join(DEMUXERS),
                "codec_whitelist": _CODEC_WHITELIST,
                "max_streams": str(limits.max_streams),
                **decoder_options(limits),
                **more_options,
            },
            metadata_errors="replace",
            buffer_size=_READ_BYTES,
        )
    except (MemoryError, av.MemoryError) as error:  # also what too many streams come back as
        raise MediaTooLarge(
            f"The file has more than {limits.max_streams} streams, or takes more memory to open than is allowed."
        ) from error
    except (av.FFmpegError, OSError, ValueError) as error:  # EINVAL where the format is not on the list
        if is_known_kind(head):
            raise InvalidMedia("The file is damaged or cut off: it cannot be opened.") from error
        raise UnsupportedMedia("The file is not of a supported kind of video or sound.") from error
    with container:
        yield container


_CODEC_WHITELIST = ",".join(sorted(VIDEO_DECODERS | AUDIO_DECODERS))


def decoder_options(limits: MediaLimits) -> dict[str, str]:
    """What every decoder is opened with, also the ones that `av.open` runs while probing."""
    return {"max_pixels": str(limits.max_pixels), "threads": "1"}


def best_video(container: InputContainer, limits: MediaLimits) -> VideoStream | None:
    """The moving picture to use: the default one, then the largest, then the first. Cover art is not one.

    Raises UnsupportedMedia where all are of codecs that are not taken, MediaTooLarge over `max_pixels`.
    """
    moving = [stream for stream in container.streams.video if not stream.disposition & _NOT_MOVING]
    taken = [stream for stream in moving if _decoder(stream) in VIDEO_DECODERS]
    if not taken:
        if moving:
            raise UnsupportedMedia(f"The video codec {codec_name(moving[0]) or 'of the file'} is not supported.")
        return None
    stream = max(taken, key=lambda stream: (bool(stream.disposition & Disposition.default), _pixels(stream)))
    if _pixels(stream) > limits.max_pixels:
        raise MediaTooLarge(
            f"The picture is {stream.width} x {stream.height} pixels; the limit is {limits.max_pixels} in all."
        )
    stream.codec_context.thread_count = 1
    stream.codec_context.options = decoder_options(limits)
    return stream


def file_size(file: BinaryIO | Readable) -> int:
    """Bytes."""
    return file.seek(0, SEEK_END)


@contextmanager
def open_video(
    file: BinaryIO | Readable | SocketFile,
    limits: MediaLimits,
    options: Mapping[str, str] | None = None,
    *,
    probe: bool = True,
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """As `open_media`, and the moving picture, its decoder with `options`; other streams will not be read.

    Raises InvalidMedia where there is none.
    """
    with open_media(file, limits, probe=probe) as container:
        stream = best_video(container, limits)
        if stream is None:
            raise InvalidMedia("The file has no moving picture.")
        for other in container.streams:
            other.discard = Discard.default if other.index == stream.index else Discard.all
        stream.codec_context.options = {**decoder_options(limits), **(options or {})}
        yield container, stream


def best_audio(container: InputContainer) -> AudioStream | None:
    """The sound to use: the default one, then the first, of those whose codec is taken."""
    taken = [stream for stream in container.streams.audio if _decoder(stream) in AUDIO_DECODERS]
    return max(taken, key=lambda stream: bool(stream.disposition & Disposition.default), default=None)


def codec_name(stream: VideoStream | AudioStream) -> str | None:
    """The codec's name, not that of the decoder: `av1`, not `libdav1d`. None where FFmpeg has no decoder for it."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else None


def describe(
    container: InputContainer,
    video: VideoStream | None,
    size: tuple[int, int] | None,
    duration_seconds: float | None = None,
    num_frames: int = 0,
) -> MediaInfo:
    """What the file says of itself. `size`: (width, height) as displayed.

    The duration and `num_frames`, that are displayed in it, where they are known; else the header's word is taken. Its
    rate is often a guess, 1000 for many a file of Matroska or FLV: it must come to as many frames.
    """
    rate = float(video.average_rate) if video and video.average_rate and video.average_rate > 0 else None
    if duration_seconds and num_frames and (rate is None or abs(rate * duration_seconds - num_frames) >= 1):
        rate = num_frames / duration_seconds
    sounds = container.streams.audio
    audio = best_audio(container) or (sounds[0] if sounds else None)
    if duration_seconds is None and container.duration is not None and container.duration > 0:
        duration_seconds = container.duration / av.time_base
    return MediaInfo(
        duration_seconds=duration_seconds,
        width=size[0] if size else None,
        height=size[1] if size else None,
        frame_rate=rate,
        video_codec=codec_name(video) if video else None,
        audio_codec=codec_name(audio) if audio else None,
        has_audio=audio is not None,
    )


def _decoder(stream: VideoStream | AudioStream) -> str | None:
    return stream.codec_context.name if stream.codec_context else None


def _pixels(stream: VideoStream) -> int:
    return stream.width * stream.height
