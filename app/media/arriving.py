"""Frames and sound of a video that is still being sent, each as soon as it is known."""

from collections.abc import Iterator
from fractions import Fraction

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.media.audio import AudioReader
from app.media.clock import FileClock
from app.media.decoding import decode_all
from app.media.display import Display
from app.media.probe import describe, open_video
from app.media.request import MediaEvent, MediaInfo, MediaLimits, MediaRequest, MediaSummary
from app.media.scaling import displayed_size
from app.media.socket_file import SocketFile
from app.media.timeline import check_duration

_UNKNOWN_FRAME_SECONDS = Fraction(1, 25)  # how long a last frame is displayed where nothing says so


def read_arriving(file: SocketFile, request: MediaRequest, limits: MediaLimits) -> Iterator[MediaEvent]:
    """MediaInfo, then the chunks of the one spec that `request` has, then MediaSummary.

    The frames are those that the same video would give as a file, one in each chunk; a frame is known when the one
    after it has come. Raises what `read_media` raises.
    """
    if request.waveforms:
        yield _NO_PICTURE
        audio = AudioReader(file, request, limits, None)
        yield from audio.read()
        yield MediaSummary(audio.asked_seconds, 0, 0, "exact", 0.0, 0.0)
        return
    with open_video(file, limits) as (container, stream):
        clock = _Clock(container, stream)
        display = Display(0, request.frames[0], clock.time_base, stream.sample_aspect_ratio)
        for frame in decode_all(container, stream):
            if not clock.num_frames:
                yield describe(container, stream, displayed_size(frame, stream.sample_aspect_ratio))
            ticks = clock.show(frame)
            check_duration(clock.seconds, limits)
            yield from display.show(ticks, frame)
        yield from display.finish(clock.end_seconds)
        yield MediaSummary(clock.end_seconds, clock.num_frames, 0, "exact", 0.0, 0.0)


_NO_PICTURE = MediaInfo(None, None, None, None, None, None, has_audio=True)


class _Clock:
    """When each frame is displayed, in ticks since the first, never falling, whatever the sender's clock does."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        time_base, rate = stream.time_base, stream.average_rate
        assert time_base is not None
        self.time_base = time_base
        self.num_frames = 0
        self._clock = FileClock(container, time_base)
        self._frame_ticks = max(1, round((1 / rate if rate else _UNKNOWN_FRAME_SECONDS) / time_base))
        self._origin: int | None = None  # the sender's time of the first frame
        self._now = 0
        self._duration = self._frame_ticks

    @property
    def seconds(self) -> float:
        """When the frame on display appeared."""
        return float(self._now * self.time_base)

    @property
    def end_seconds(self) -> float:
        """When it is gone, if it is the last one."""
        return float((self._now + self._duration) * self.time_base)

    def show(self, frame: VideoFrame) -> int:
        """When `frame`, the next one, appears."""
        self._now = self._ticks_of(frame)
        self._duration = frame.duration or self._frame_ticks
        self.num_frames += 1
        return self._now

    def _ticks_of(self, frame: VideoFrame) -> int:
        if frame.pts is None:
            return self._now + (self._frame_ticks if self.num_frames else 0)
        if self._origin is None:
            self._origin = frame.pts - self._now
        return self._clock.time_of(frame.pts - self._origin, self._now, self._now + self._duration)
