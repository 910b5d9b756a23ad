"""The one entry to decoding in process: what the decoder workers run, and the trainer."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import BinaryIO, TypeVar

from app.errors import InvalidMedia
from app.media.arriving import read_arriving
from app.media.audio import AudioReader
from app.media.descriptors import GrowingFile
from app.media.early import Early, rate_specs, read_early
from app.media.first_frame import read_first_frame
from app.media.onepass import VideoOutcome
from app.media.packets import SMALL_BYTES
from app.media.pictures import read_pictures
from app.media.probe import Readable, file_size
from app.media.request import (
    FrameChunk,
    MediaEvent,
    MediaInfo,
    MediaLimits,
    MediaRequest,
    MediaSummary,
    WaveformChunk,
)
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
    early = Early([0] * len(request.frames))
    clock = _BusyClock()
    if isinstance(file, GrowingFile):
        yield from clock.time(read_early(file, request, limits, early), lambda: file.waited_seconds)
        yield from _read_whole(file.whole(), request, limits, early, clock)
    elif isinstance(file, SocketFile):
        yield from read_arriving(file, request, limits)
    elif request.source == "pictures":
        yield from read_pictures(file, request, limits)
    else:
        yield from _read_whole(file, request, limits, early, clock)


def _read_whole(
    file: BinaryIO | Readable, request: MediaRequest, limits: MediaLimits, early: Early, clock: "_BusyClock"
) -> Iterator[MediaEvent]:
    """All that has not been given back early, and MediaSummary."""
    video = early.video or VideoOutcome()
    if request.frames:
        for event in clock.time(_read_frames(file, request, limits, early, video)):
            yield event
            if request.waveforms and isinstance(event, MediaInfo) and not event.has_audio:
                raise InvalidMedia("The file has no sound.")
    else:
        info, video.first_seconds = read_first_frame(file, limits)
        yield info
    audio = early.audio
    if request.waveforms and audio is None:
        audio = AudioReader(file, request, limits, video.first_seconds)
        yield from islice(clock.time(audio.read()), early.num_waveforms, None)
    if audio is not None and audio.end_seconds is not None and not request.frames and info.width is None:
        yield replace(info, duration_seconds=audio.end_seconds)  # many a header of sound alone has only an estimate
    yield MediaSummary(
        duration_seconds=max(video.asked_seconds, audio.asked_seconds if audio is not None else 0.0),
        frames_decoded=video.frames_decoded,
        frames_skipped=video.frames_skipped,
        sampling=video.sampling,
        queue_seconds=0.0,
        decode_seconds=clock.seconds,
        while_uploading=early.while_uploading,
    )


def _read_frames(
    file: BinaryIO | Readable, request: MediaRequest, limits: MediaLimits, early: Early, outcome: VideoOutcome
) -> Iterator[MediaInfo | FrameChunk]:
    """The frames of all specs but those that are complete; counted in `outcome`."""
    every, rated = tuple(range(len(request.frames))), rate_specs(request)
    spread = tuple(number for number in every if number not in rated)
    passes = [every]
    if early.video is not None:
        assert early.info is not None
        passes = [spread] if spread else []
        if not spread:  # what streams there are, the whole file knows best
            known = early.info
            yield replace(
                read_first_frame(file, limits)[0], duration_seconds=known.duration_seconds, frame_rate=known.frame_rate
            )
    elif request.is_prompt and rated and spread and file_size(file) > SMALL_BYTES:
        passes = [rated, spread]
    for numbers in passes:
        part = replace(request, frames=tuple(request.frames[number] for number in numbers))
        reader = VideoReader(file, part, limits, [early.num_frames[number] for number in numbers])
        for event in reader.read():
            yield replace(event, spec=numbers[event.spec]) if isinstance(event, FrameChunk) else event
        outcome.add(reader.outcome)


class _BusyClock:
    """Counts the seconds in which something is made, not those in which it is used."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, events: Iterator[_Event], waited: Callable[[], float] = lambda: 0.0) -> Iterator[_Event]:
        """The events, each chunk with the seconds so far; without those that it `waited` for the file to grow."""
        while True:
            began, waited_before = time.perf_counter(), waited()
            try:
                event = next(events)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began - (waited() - waited_before)
            if isinstance(event, FrameChunk | WaveformChunk):
                event = replace(event, decode_seconds=self.seconds)
            yield event
