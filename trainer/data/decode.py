"""Decodes one video into the cache. Runs in worker processes, so it never imports torch."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidMedia
from app.media.decode import read_media
from app.media.request import Fit, FrameChunk, FrameSpec, MediaEvent, MediaInfo, MediaLimits, MediaRequest, MediaSummary
from trainer.data.listing import Video

LIMITS = MediaLimits()
CLIP, FRAMES = 0, 1
"""Places in the request."""


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """How videos are sampled, once for all epochs."""

    width: int
    """Pixels. Width, height, fit and clip_length are the manifest's, so that `clip` is what the service samples."""
    height: int
    fit: Fit
    clip_length: int
    frames_width: int
    """Pixels; as much larger than `width` as random crops need."""
    frames_height: int
    frames_rate: float
    """Frames per second; 0: the clip alone, no frames."""


def stream_spec(width: int, height: int, fit: Fit, rate: float) -> CacheSpec:
    """All frames as the service steps through them. The clip beside them has one frame, and nothing reads it."""
    return CacheSpec(width, height, fit, 1, width, height, rate)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What is known about a decoded video. Its pixels lie beside it: the frames, then the clip."""

    sha256: str
    """Of the file."""
    duration_seconds: float
    """Of the part that was asked for."""
    width: int
    """Pixels as displayed."""
    height: int
    frame_rate: float | None
    """Average, frames per second."""
    video_codec: str | None
    frames_shape: tuple[int, int, int, int]
    """(N, H, W, 3) at the spec's `frames_rate`."""
    clip_shape: tuple[int, int, int, int]
    """(T, H, W, 3)"""


def decode_video(video: Video, sha256: str, spec: CacheSpec, pixels: Path, partial: Path) -> None:
    """Writes the frames and the clip of `video` to `pixels`, and its CacheEntry to `pixels` with `.json`.

    Writes both to `partial` first, and the entry last: if it is there, the pixels are complete.
    Raises ServiceError or OSError.
    """
    clip = FrameSpec(spec.width, spec.height, spec.fit, clip_length=spec.clip_length)
    frames = FrameSpec(spec.frames_width, spec.frames_height, spec.fit, rate=spec.frames_rate)
    request = MediaRequest(
        frames=(clip, frames) if spec.frames_rate else (clip,),
        start_seconds=video.start_seconds,
        end_seconds=video.end_seconds,
        sampling="exact",
    )
    with video.path.open("rb") as file, partial.open("wb") as output:
        entry = _write_pixels(read_media(file, request, LIMITS), sha256, output)
    partial.replace(pixels)
    partial.write_text(json.dumps(asdict(entry)), encoding="utf-8")
    partial.replace(pixels.with_suffix(".json"))


def read_entry(pixels: Path) -> CacheEntry | None:
    """The entry of `pixels`, or None if they are not decoded yet."""
    try:
        fields: dict[str, Any] = json.loads(pixels.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    fields |= {name: tuple(fields[name]) for name in ("frames_shape", "clip_shape")}
    return CacheEntry(**fields)


def _write_pixels(events: Iterable[MediaEvent], sha256: str, output: IO[bytes]) -> CacheEntry:
    """Writes frames to the file as they come, so that a long video needs no memory."""
    info: MediaInfo | None = None
    summary: MediaSummary | None = None
    clip: list[NDArray[np.uint8]] = []
    num_frames = 0
    frames_size = (0, 0)
    for event in events:
        if isinstance(event, MediaInfo):
            info = event
        elif isinstance(event, MediaSummary):
            summary = event
        elif isinstance(event, FrameChunk) and event.spec == CLIP:
            clip.append(event.frames)
        elif isinstance(event, FrameChunk) and event.spec == FRAMES:
            output.write(np.ascontiguousarray(event.frames).data)
            num_frames += len(event.frames)
            frames_size = event.frames.shape[1:3]
    if info is None or summary is None or not clip:
        raise InvalidMedia("No picture could be decoded.")
    whole_clip = np.concatenate(clip)
    output.write(whole_clip.data)
    return CacheEntry(
        sha256=sha256,
        duration_seconds=summary.duration_seconds,
        width=info.width or 0,
        height=info.height or 0,
        frame_rate=info.frame_rate,
        video_codec=info.video_codec,
        frames_shape=(num_frames, *frames_size, 3),
        clip_shape=(len(whole_clip), *whole_clip.shape[1:3], 3),
    )
