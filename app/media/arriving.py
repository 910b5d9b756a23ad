"""Frames and sound of a video that is still being sent, each as soon as it is known."""

from collections.abc import Iterator

from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from app.errors import InvalidMedia
from app.media.audio import AudioReader
from app.media.decoding import decode_all
from app.media.frames import one_frame_chunk
from app.media.probe import best_video, describe, open_media
from app.media.request import FrameChunk, FrameSpec, MediaEvent, MediaInfo, MediaLimits, MediaRequest, MediaSummary
from app.media.sampling import ROUNDING_SECONDS
from app.media.scaling import FrameScaler, displayed_size
from app.media.socket_file import SocketFile
from app.media.timeline import check_duration

_MAX_GAP_SECONDS = 10.0
"""A longer gap between two frames is taken for a clock that was set anew, not for a picture that stood still."""
_UNKNOWN_FRAME_SECONDS = 0.04  # how long a last frame is displayed where nothing says so


def read_arriving(file: SocketFile, request: MediaRequest, limits: MediaLimits) -> Iterator[MediaEvent]:
    """MediaInfo, then the chunks of the one spec that `request` has, then MediaSummary.

    The frames are those that the same video would give as a file, one in each chunk; a frame is known when the one
    after it has come. Raises what `read_media` raises.
    """
    if request.waveforms:
        yield _NO_PICTURE
        audio = AudioReader(file, request, limits, 0.0)
        yield from audio.read()
        yield MediaSummary(audio.asked_seconds, 0, 0, "exact", 0.0, 0.0)
        return
    with open_media(file, limits) as container:
        stream = best_video(container, limits)
        if stream is None:
            raise InvalidMedia("The file has no moving picture.")
        for other in container.streams:
            other.discard = Discard.default if other.index == stream.index else Discard.all
        video = _Display(request.frames[0], stream, limits)
        for frame in decode_all(container, stream):
            if video.is_new:
                yield describe(container, stream, displayed_size(frame, stream.sample_aspect_ratio), None)
            yield from video.show(frame)
        yield from video.finish()
        yield MediaSummary(video.seconds, video.num_frames, 0, "exact", 0.0, 0.0)


_NO_PICTURE = MediaInfo(None, None, None, None, None, None, has_audio=True)


class _Display:
    """What is on display at each moment k / rate, told once the next frame shows that nothing else can be."""

    def __init__(self, spec: FrameSpec, stream: VideoStream, limits: MediaLimits) -> None:
        self._spec = spec
        self._stream = stream
        self._limits = limits
        time_base = stream.time_base
        assert time_base is not None
        self._time_base = time_base
        self._late_seconds = float(min(ROUNDING_SECONDS, time_base / 2))
        self._frame_seconds = float(1 / stream.average_rate) if stream.average_rate else _UNKNOWN_FRAME_SECONDS
        self._origin: float | None = None  # the file's time of the first frame
        self._shown: VideoFrame | None = None
        self._scaler: FrameScaler | None = None
        self._next = 0  # moment that is awaited
        self.seconds = 0.0
        """Since the first frame, when the one on display appeared."""
        self.num_frames = 0

    @property
    def is_new(self) -> bool:
        return self._shown is None

    def show(self, frame: VideoFrame) -> Iterator[FrameChunk]:
        seconds = self._seconds_of(frame)
        yield from self._until(seconds - self._late_seconds)
        self.seconds = seconds
        self._shown = frame
        self.num_frames += 1
        check_duration(seconds, self._limits)

    def finish(self) -> Iterator[FrameChunk]:
        """The moments of the last frame's own time."""
        shown = self._shown
        assert shown is not None
        duration = float(shown.duration * self._time_base) if shown.duration else self._frame_seconds
        end = self.seconds + duration
        shortest = 1e-9  # a video of no length has a frame all the same
        yield from self._until(max(end - float(ROUNDING_SECONDS), shortest))
        self.seconds = end

    def _seconds_of(self, frame: VideoFrame) -> float:
        """Since the first frame, never falling."""
        if frame.pts is None:
            return self.seconds + (self._frame_seconds if self.num_frames else 0.0)
        in_file = float(frame.pts * self._time_base)
        if self._origin is None:
            self._origin = in_file
        if abs(in_file - self._origin - self.seconds) > _MAX_GAP_SECONDS:
            self._origin = in_file - self.seconds - self._frame_seconds
        return max(self.seconds, in_file - self._origin)

    def _until(self, seconds: float) -> Iterator[FrameChunk]:
        """The frame on display for every moment before `seconds`."""
        while self._shown is not None and (moment := self._next / self._spec.rate) < seconds:
            if self._scaler is None:
                self._scaler = FrameScaler(self._spec, self._shown, self._stream.sample_aspect_ratio)
            yield one_frame_chunk(0, self._scaler, self._shown, moment)
            self._next += 1
