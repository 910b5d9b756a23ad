"""What a request should give, by the plain way: decode every frame, then pick by brute force in exact fractions."""

from bisect import bisect_right
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from app.media.decode import read_media
from app.media.probe import best_video, open_media
from app.media.request import FrameChunk, FrameSpec, MediaEvent, MediaLimits, MediaRequest, MediaSummary
from app.media.scaling import FrameScaler


def decode_everything(path: Path, spec: FrameSpec) -> tuple[np.ndarray, list[Fraction], Fraction]:
    """Every frame of the video at the size of `spec` (N, H, W, 3), its seconds, and when the last one ends."""
    pictures: list[np.ndarray] = []
    seconds: list[Fraction] = []
    end, is_timed, ahead = Fraction(0), False, Fraction(0)
    with path.open("rb") as file, open_media(file, MediaLimits()) as container:
        stream: Any = best_video(container, MediaLimits())
        scaler = None
        is_joined = container.format.name in ("mpegts", "mpeg", "ogg")
        earliest, latest = (Fraction(1, 10), 10) if is_joined else (10, 10**12)  # seconds that make another clock
        step = 1 / stream.average_rate if stream.average_rate else stream.time_base
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):
                packet = None
            if packet is not None and not packet.size:
                continue
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                frames = []
            for frame in frames:
                scaler = scaler or FrameScaler(spec, frame, stream.sample_aspect_ratio)
                width, height = scaler.size
                picture = np.empty((height, width, 3), np.uint8)
                scaler.scale(frame, picture)
                if frame.pts is not None and not is_timed:
                    is_timed = True
                    seconds = [frame.pts * stream.time_base + step * (k - len(seconds)) for k in range(len(seconds))]
                if frame.pts is None:
                    time = end if is_timed else step * len(seconds)
                else:
                    time = frame.pts * stream.time_base - ahead
                    if seconds and not -earliest <= time - seconds[-1] <= latest:
                        ahead += time - end
                        time = end
                    time = max([time, *seconds[-1:]])
                gap = time - seconds[-1] if seconds else Fraction(0)
                end = time + (frame.duration * stream.time_base if frame.duration else gap or step)
                pictures.append(picture)
                seconds.append(time)
            if packet is None:
                break
    first = seconds[0]
    return np.stack(pictures), [time - first for time in seconds], end - first


def pick_spread(seconds: list[Fraction], clip_length: int) -> list[int]:
    """The frame nearest to each of the moments, the earlier at a tie."""
    first, last = seconds[0], seconds[-1]
    moments = [first + (last - first) * Fraction(k, max(1, clip_length - 1)) for k in range(clip_length)]
    return [min(range(len(seconds)), key=lambda i: abs(seconds[i] - moment)) for moment in moments]


def pick_rate(seconds: list[Fraction], end: Fraction, rate: float, tick: Fraction) -> list[int]:
    """The frame on display at 0, 1/rate, 2/rate … before the end, half a tick or half a millisecond early at most."""
    early = min(Fraction(1, 2000), tick / 2)
    picks, moment = [], Fraction(0)
    while not picks or moment < end - Fraction(1, 2000):
        picks.append(max(0, bisect_right(seconds, moment + early) - 1))
        moment += 1 / Fraction(rate)
    return picks


def read_frames(path: Path, request: MediaRequest) -> tuple[list[np.ndarray], list[MediaEvent]]:
    """The frames of each spec (T, H, W, 3), and all events."""
    with path.open("rb") as file:
        events = list(read_media(file, request))
    assert isinstance(events[-1], MediaSummary)
    parts: list[list[np.ndarray]] = [[] for _ in request.frames]
    for event in events:
        if isinstance(event, FrameChunk):
            parts[event.spec].append(event.frames)
    return [np.concatenate(chunks) for chunks in parts], events
