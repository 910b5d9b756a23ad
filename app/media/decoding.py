"""Decoded frames of a video stream: all of them, or those of a plan."""

from array import array
from collections.abc import Iterable, Iterator
from itertools import chain

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.errors import InvalidMedia
from app.media.clock import FileClock
from app.media.packets import Plan, demux
from app.media.timeline import Timeline, last_duration

_MAX_PIXEL_BYTES = 8
"""Of a frame in the decoder: 6 for three colours of 16 bits, the rest for motion vectors."""


class SurpriseError(Exception):
    """What came out of the decoder is not what the packets announced."""


def decode_all(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every displayed frame, in display order. What does not decode is passed over.

    Raises InvalidMedia where nothing does.
    """
    num_frames = 0
    for packet in chain(demux(container, stream), [None]):
        try:
            frames = stream.decode(packet)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            _check_memory(stream)
            continue
        num_frames += len(frames)
        yield from frames
    if not num_frames:
        raise InvalidMedia("No frame of the video could be decoded.")


def decode_times(container: InputContainer, stream: VideoStream) -> Timeline:
    """When each frame is displayed, from decoding all of them.

    A frame without a time follows the one before it, or precedes the first that has one. One that is late is displayed
    when it comes; so is what comes after the file's clock was set anew (`app.media.clock`).
    """
    assert stream.time_base is not None
    clock = FileClock(container, stream.time_base)
    step = last_duration(np.empty(0, np.int64), None, stream.average_rate, stream.time_base)
    times, duration, num_untimed = array("q"), None, 0
    for frame in decode_all(container, stream):
        if times:
            due = times[-1] + (duration or step)
            times.append(due if frame.pts is None else clock.time_of(frame.pts, times[-1], due))
        elif frame.pts is not None:
            times.extend(frame.pts - step * before for before in range(num_untimed, -1, -1))
        else:
            num_untimed += 1
            continue
        duration = frame.duration
    if not times:
        times.extend(step * number for number in range(num_untimed))
    ticks = np.array(times, np.int64)
    end = times[-1] + last_duration(ticks, duration, stream.average_rate, stream.time_base)
    return Timeline(ticks, end, stream.time_base)


def decode_planned(
    packets: "Iterable[Packet[VideoStream]]", stream: VideoStream, plan: Plan, timeline: Timeline
) -> Iterator[tuple[int, VideoFrame]]:
    """The frames of `plan.produced` with their timeline indices; raises SurpriseError at anything else."""
    produced = map(int, plan.produced)
    for frame in _feed(packets, stream, plan):
        index = next(produced, None)
        if index is None or frame.pts != timeline.times[index] or frame.is_corrupt:
            raise SurpriseError
        yield index, frame
    if next(produced, None) is not None:
        raise SurpriseError


def _feed(packets: "Iterable[Packet[VideoStream]]", stream: VideoStream, plan: Plan) -> Iterator[VideoFrame]:
    try:
        for number, packet in enumerate(packets):
            if number in plan.restarts:
                yield from stream.decode(None)
                stream.codec_context.flush_buffers()
            if plan.feed[number]:
                yield from stream.decode(packet)
            if number == plan.last:
                break
        yield from stream.decode(None)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        _check_memory(stream)
        raise SurpriseError from error


def _check_memory(stream: VideoStream) -> None:
    """Raise MemoryError where there is no room for one more frame: FFmpeg's H.264 decoder then calls the data invalid,
    and every frame to come would be passed over."""
    np.empty((stream.codec_context.height, stream.codec_context.width, _MAX_PIXEL_BYTES), np.uint8)
