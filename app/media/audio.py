"""Sound as mono float32 at the rates that a request asks for, all from one decode."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard
from numpy.typing import NDArray

from app.errors import InvalidMedia, UnsupportedMedia
from app.media.clock import JITTER_SECONDS, MAX_GAP_SECONDS, may_be_set_anew
from app.media.packets import demux
from app.media.probe import Readable, best_audio, codec_name, decoder_options, open_media
from app.media.request import MediaLimits, MediaRequest, WaveformChunk, WaveformSpec
from app.media.socket_file import SocketFile
from app.media.timeline import check_duration, no_part

_SILENCE = {"u8": 128, "u8p": 128}
"""A byte of it, where that is not 0."""
_FOR_EVER_SECONDS = 1e9
"""No sound is read for as long: a part may end at 1e306 s, of which samples cannot be counted."""


class AudioReader:
    """Reads the sound of one request."""

    def __init__(
        self,
        file: BinaryIO | Readable | SocketFile,
        request: MediaRequest,
        limits: MediaLimits,
        origin_seconds: float | None,
    ) -> None:
        """`origin_seconds`: the file's time at which the request's seconds begin; None: with the first sample."""
        self._file = file
        self._request = request
        self._limits = limits
        self._origin_seconds = origin_seconds
        self.asked_seconds = 0.0
        """That were given back; complete when `read` has ended."""
        self.end_seconds: float | None = None
        """When the sound is over; None where it was not read so far."""

    def read(self) -> Iterator[WaveformChunk]:
        """The chunks of all specs. Raises InvalidMedia where there is no sound, or one with NaN or Inf in it."""
        with open_media(self._file, self._limits) as container:
            yield from self.read_from(container)

    def read_from(self, container: InputContainer) -> Iterator[WaveformChunk]:
        """Like `read`, of a file that has been opened."""
        stream = _open_sound(container, self._limits)
        longest_gap = MAX_GAP_SECONDS if may_be_set_anew(container) else math.inf
        yield from self._read(self._without_gaps(_decode_all(container, stream), longest_gap))

    def _read(self, frames: Iterator[tuple[float, AudioFrame]]) -> Iterator[WaveformChunk]:
        collectors: list[_WaveformCollector] = []
        seconds = 0.0  # where the frame ends, from the origin
        for start, frame in frames:
            seconds = start + frame.samples / frame.sample_rate
            check_duration(max(seconds, abs(start)), self._limits)
            if not collectors:
                collectors = [
                    _WaveformCollector(number, spec, start, self._request)
                    for number, spec in enumerate(self._request.waveforms)
                ]
            for collector in collectors:
                yield from collector.add(frame)
            if all(collector.complete for collector in collectors):
                break
        else:
            self.end_seconds = seconds
        for collector in collectors:
            yield from collector.finish()
            self.asked_seconds = max(self.asked_seconds, collector.num_samples / collector.sample_rate)
        if not self.asked_seconds:
            raise InvalidMedia(no_part(self._request, self.end_seconds))

    def _without_gaps(
        self, frames: Iterator[AudioFrame], longest_gap_seconds: float
    ) -> Iterator[tuple[float, AudioFrame]]:
        """The frames with the seconds at which they start; silence where time stamps leave a gap.

        After a longer one, or where they fall, the clock was set anew: what follows goes on from there.
        """
        due: float | None = None  # when the next frame should start by the samples so far
        ahead_seconds = self._origin_seconds  # that the file's clock is ahead of ours
        for frame in frames:
            stamp = None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)
            if ahead_seconds is None:
                ahead_seconds = stamp or 0.0
            if due is None:
                due = (stamp or 0.0) - ahead_seconds
            gap = 0.0 if stamp is None else stamp - ahead_seconds - due
            if JITTER_SECONDS < gap < longest_gap_seconds:
                check_duration(due + gap, self._limits)  # before all that silence is made
                for silence in _silence(frame, gap):
                    yield due, silence
                    due += silence.samples / silence.sample_rate
            elif abs(gap) > JITTER_SECONDS:
                ahead_seconds += gap
            yield due, frame
            due += frame.samples / frame.sample_rate


def _open_sound(container: InputContainer, limits: MediaLimits) -> AudioStream:
    stream = best_audio(container)
    if stream is None:
        if container.streams.audio:
            name = codec_name(container.streams.audio[0]) or "of the file"
            raise UnsupportedMedia(f"The sound codec {name} is not supported.")
        raise InvalidMedia("The file has no sound.")
    for other in container.streams:
        other.discard = Discard.default if other.index == stream.index else Discard.all
    stream.codec_context.thread_count = 1
    stream.codec_context.options = decoder_options(limits)
    return stream


def _decode_all(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """All frames that decode; raises InvalidMedia where none does."""
    found = False
    for packet in chain(demux(container, stream), [None]):
        try:
            frames = stream.decode(packet)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            continue
        for frame in frames:
            if frame.samples and frame.sample_rate:
                found = True
                yield frame
    if not found:
        raise InvalidMedia("No sound of the file could be decoded.")


def _silence(like: AudioFrame, seconds: float) -> Iterator[AudioFrame]:
    left = round(seconds * like.sample_rate)
    while left > 0:
        silence = AudioFrame(like.format, like.layout, min(left, like.sample_rate))
        for plane in silence.planes:
            plane.update(bytes([_SILENCE.get(like.format.name, 0)]) * plane.buffer_size)
        silence.sample_rate = like.sample_rate
        left -= silence.samples
        yield silence


def _num_samples(seconds: float, sample_rate: int) -> int:
    return max(0, round(min(seconds, _FOR_EVER_SECONDS) * sample_rate))


class _WaveformCollector:
    """Resamples frames and cuts them into the chunks of one WaveformSpec."""

    def __init__(self, number: int, spec: WaveformSpec, start_seconds: float, request: MediaRequest) -> None:
        self._number = number
        self.sample_rate = spec.sample_rate
        begin = start_seconds if request.start_seconds is None else max(start_seconds, request.start_seconds)
        self._to_drop = _num_samples(begin - start_seconds, spec.sample_rate)
        self._to_take: int | None = None
        if request.end_seconds is not None:
            self._to_take = _num_samples(request.end_seconds - begin, spec.sample_rate)
        self._start_seconds = start_seconds + self._to_drop / spec.sample_rate
        self._chunk = np.empty(spec.chunk_samples, np.float32)
        self._filled = 0
        self._resampler: AudioResampler | None = None
        self._source: tuple[str, str, int] | None = None
        self.num_samples = 0

    @property
    def complete(self) -> bool:
        return self._to_take == 0

    def add(self, frame: AudioFrame) -> Iterator[WaveformChunk]:
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if source != self._source:
            yield from self._drain()
            self._source = source
            self._resampler = AudioResampler("flt", "mono", self.sample_rate, options={"rematrix_maxval": "1.0"})
        assert self._resampler is not None
        frame.pts = None  # gaps are filled already; the resampler must not do so again
        try:
            parts = self._resampler.resample(frame)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:  # a sample rate or a layout that there cannot be
            raise InvalidMedia("The sound has a rate or a number of channels that cannot be read.") from error
        for resampled in parts:
            yield from self._take(resampled.to_ndarray()[0])

    def finish(self) -> Iterator[WaveformChunk]:
        """What is left, as the last and shorter chunk."""
        yield from self._drain()
        if self._filled:
            yield self._give_back()

    def _drain(self) -> Iterator[WaveformChunk]:
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                if resampled is not None:  # given where there is nothing to resample
                    yield from self._take(resampled.to_ndarray()[0])

    def _take(self, samples: NDArray[np.float32]) -> Iterator[WaveformChunk]:
        if not np.isfinite(samples).all():
            raise InvalidMedia("The sound holds values that are not finite numbers.")
        dropped = min(self._to_drop, len(samples))
        self._to_drop -= dropped
        samples = samples[dropped:]
        if self._to_take is not None:
            samples = samples[: self._to_take]
            self._to_take -= len(samples)
        while len(samples):
            count = min(len(samples), len(self._chunk) - self._filled)
            np.clip(samples[:count], -1.0, 1.0, out=self._chunk[self._filled : self._filled + count])
            self._filled += count
            samples = samples[count:]
            if self._filled == len(self._chunk):
                yield self._give_back()

    def _give_back(self) -> WaveformChunk:
        start = self._start_seconds + self.num_samples / self.sample_rate
        chunk = WaveformChunk(self._number, self._chunk[: self._filled].copy(), start)
        self.num_samples += self._filled
        self._filled = 0
        return chunk
