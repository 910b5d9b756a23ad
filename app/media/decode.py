"""The one entry to decoding in process: what the decoder workers run, and the trainer."""

import time
from collections.abc import Iterator
from typing import BinaryIO, TypeVar

import av

from app.errors import InvalidMedia, ServiceError
from app.media.arriving import read_arriving
from app.media.audio import AudioReader
from app.media.decoding import decode_all
from app.media.pictures import read_pictures
from app.media.probe import Readable, best_video, describe, open_media
from app.media.request import MediaEvent, MediaInfo, MediaLimits, MediaRequest, MediaSummary
from app.media.scaling import displayed_size
from app.media.socket_file import SocketFile
from app.media.video import VideoReader

DEFAULT_LIMITS = MediaLimits()

_Event = TypeVar("_Event", bound=MediaEvent)


def read_media(
    file: BinaryIO | Readable | SocketFile, request: MediaRequest, limits: MediaLimits = DEFAULT_LIMITS
) -> Iterator[MediaEvent]:
    """MediaInfo, then FrameChunks and WaveformChunks, then MediaSummary.

    `file` is read from its beginning, and seekable unless it is still being sent; its name is never looked at. Memory
    does not grow with the length of the video. Raises UnsupportedMedia, InvalidMedia or MediaTooLarge; chunks given
    before that are sound.
    """
    if isinstance(file, SocketFile):
        yield from read_arriving(file, request, limits)
        return
    if request.source == "pictures":
        yield from read_pictures(file, request, limits)
        return
    clock = _BusyClock()
    video, audio_seconds = VideoReader(file, request, limits), 0.0
    if request.frames:
        for event in clock.time(video.read()):
            yield event
            if request.waveforms and isinstance(event, MediaInfo) and not event.has_audio:
                raise InvalidMedia("The file has no sound.")
    else:
        info, video.outcome.first_seconds = _describe(file, limits)
        yield info
    if request.waveforms:
        audio = AudioReader(file, request, limits, video.outcome.first_seconds)
        yield from clock.time(audio.read())
        audio_seconds = audio.asked_seconds
    yield MediaSummary(
        duration_seconds=max(video.outcome.asked_seconds, audio_seconds),
        frames_decoded=video.outcome.frames_decoded,
        frames_skipped=video.outcome.frames_skipped,
        sampling=video.outcome.sampling,
        queue_seconds=0.0,
        decode_seconds=clock.seconds,
    )


class _BusyClock:
    """Counts the seconds in which something is made, not those in which it is used."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, events: Iterator[_Event]) -> Iterator[_Event]:
        while True:
            began = time.perf_counter()
            try:
                event = next(events)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield event


def _describe(file: BinaryIO | Readable, limits: MediaLimits) -> tuple[MediaInfo, float]:
    """What a file says of itself, and when its first frame is displayed or its first sample heard, in seconds.

    One frame is decoded, for only a frame tells how it is turned. A picture that cannot be used is not an error here.
    """
    with open_media(file, limits) as container:
        stream, frame = None, None
        try:
            stream = best_video(container, limits)
            frame = next(decode_all(container, stream)) if stream else None
        except ServiceError:
            stream = None
        size = displayed_size(frame, stream.sample_aspect_ratio) if stream and frame else None
        start = float((container.start_time or 0) / av.time_base)
        if stream and stream.start_time is not None and stream.time_base is not None:
            start = float(stream.start_time * stream.time_base)
        return describe(container, stream, size, None), start
