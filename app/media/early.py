"""What can be told of a file while somebody still writes to it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from app.errors import ServiceError
from app.media.audio import AudioReader
from app.media.decoding import SurpriseError
from app.media.descriptors import GrowingFile
from app.media.first_frame import read_first_frame
from app.media.onepass import OnePass, VideoOutcome, can_read_in_one_pass
from app.media.probe import open_media, open_video
from app.media.request import FrameChunk, MediaEvent, MediaInfo, MediaLimits, MediaRequest

_TOLD_BY_THE_END = ("mp3",)
"""Containers of which FFmpeg says only of a complete file how much of the last packet is sound."""


@dataclass(slots=True)
class Early:
    """What was given back early. What is not complete is read again once the file is, without that."""

    num_frames: list[int]
    """Of each spec."""
    num_waveforms: int = 0
    """Chunks."""
    video: VideoOutcome | None = None
    """All frames at a rate were given back."""
    audio: AudioReader | None = None
    """All sound was given back."""
    info: MediaInfo | None = None
    while_uploading: bool = False


def rate_specs(request: MediaRequest) -> tuple[int, ...]:
    """Numbers of the specs whose frames can be given back as they come."""
    return tuple(number for number, spec in enumerate(request.frames) if not spec.clip_length)


def read_early(file: GrowingFile, request: MediaRequest, limits: MediaLimits, early: Early) -> Iterator[MediaEvent]:
    """MediaInfo and chunks as soon as they are known; ends without an error where the file has to be complete.

    So it is with a plain MP4, whose index comes last, with anything damaged, and where frames and sound are wanted at
    once: each would have to be kept while the other is read.
    """
    numbers = rate_specs(request)
    alone = replace(request, frames=tuple(request.frames[number] for number in numbers))
    if not can_read_in_one_pass(alone) or bool(numbers) == bool(request.waveforms):
        return
    try:
        for event in _frames(file, alone, limits, early, numbers) if numbers else _sound(file, request, limits, early):
            early.while_uploading |= not file.has_ended and not isinstance(event, MediaInfo)
            yield event
    except (SurpriseError, ServiceError):  # the complete file tells why, if that is an error
        return


def _frames(
    file: GrowingFile, request: MediaRequest, limits: MediaLimits, early: Early, numbers: tuple[int, ...]
) -> Iterator[MediaInfo | FrameChunk]:
    num_given = [0] * len(numbers)
    with open_video(file, limits, {"err_detect": "explode"}) as (container, stream):
        one_pass = OnePass(container, stream, request.frames, limits, num_given)
        for event in one_pass.read():
            if isinstance(event, FrameChunk):
                number = numbers[event.spec]
                early.num_frames[number] = num_given[event.spec]
                yield replace(event, spec=number)
            else:
                early.info = event
                yield event
    early.video = one_pass.outcome


def _sound(file: GrowingFile, request: MediaRequest, limits: MediaLimits, early: Early) -> Iterator[MediaEvent]:
    info, start_seconds = read_first_frame(file, limits)
    file.rewind()
    with open_media(file, limits) as container:
        if container.format.name in _TOLD_BY_THE_END:
            raise SurpriseError
        yield info
        audio = AudioReader(file, request, limits, start_seconds)
        for chunk in audio.read_from(container):
            early.num_waveforms += 1
            yield chunk
    early.audio = audio
