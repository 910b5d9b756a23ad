"""What is asked of a media file, and the events that answer it. Plain data: it crosses process borders."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Fit = Literal["stretch", "crop", "pad", "keep"]
Sampling = Literal["exact", "fast"]
Source = Literal["file", "pictures", "arriving", "growing"]
"""file: a video or a sound, whole; pictures: JPEG, PNG or WebP one after the other, each as a frame of its own;
arriving: a video or a sound that is read from a socket while somebody still sends it; growing: a file that somebody
still writes to."""


@dataclass(frozen=True, slots=True)
class FrameSpec:
    """Which frames of a video one consumer wants, and at which size."""

    width: int
    """Pixels; 0 (with height 0): the video's own size, scaled down to `longest_side`."""
    height: int
    fit: Fit = "stretch"
    """stretch: to the size; crop: cover it, centred; pad: inside it, black bars; keep: aspect kept, `longest_side`."""
    longest_side: int = 0
    """Pixels; the larger side's limit when width and height are 0."""
    clip_length: int = 0
    """Frames spread uniformly from the first displayed frame to the last, both included; 0: use `rate` alone."""
    rate: float = 0.0
    """Frames per second from the first displayed frame on; with `clip_length`: that many, up to `last_seconds`."""
    last_seconds: float | None = None
    """With `clip_length` and `rate`: the last frame is the one on display then; None: the last of the part asked for.

    What would lie before the first displayed frame is that frame again."""
    chunk_length: int = 32
    """Frames in one FrameChunk at most."""


@dataclass(frozen=True, slots=True)
class WaveformSpec:
    """Sound as mono float32 in [-1, 1]."""

    sample_rate: int
    """Hz."""
    chunk_samples: int
    """Samples in every WaveformChunk but the last."""


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """Everything wanted of one file, answered in one pass."""

    frames: tuple[FrameSpec, ...] = ()
    waveforms: tuple[WaveformSpec, ...] = ()
    start_seconds: float | None = None
    """From the first displayed frame; None: the beginning."""
    end_seconds: float | None = None
    """Exclusive; None: the end."""
    sampling: Sampling = "exact"
    source: Source = "file"
    num_pictures: int = 0
    """That the file has, if it is of pictures."""
    cores: int = 1
    """On which it is decoded: with more, the same frames come sooner, for up to a tenth more CPU.

    Where cores are idle, the pool gives more than are asked for."""
    is_prompt: bool = False
    """Frames at a rate are wanted as soon as they are known, though others of the same video then take another pass."""


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What a file may cost; over any of these it is refused with MediaTooLarge."""

    max_duration_seconds: float = 4 * 3600.0
    max_pixels: int = 4096 * 2304
    """Width times height of one frame."""
    max_streams: int = 16


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the file says of itself, checked where that is cheap. Always the first event.

    Where frames are given back before all of the file is read, it comes again: the last one holds."""

    duration_seconds: float | None
    width: int | None
    """Pixels as displayed: after rotation and sample aspect ratio."""
    height: int | None
    frame_rate: float | None
    """Average, frames per second."""
    video_codec: str | None
    audio_codec: str | None
    has_audio: bool


@dataclass(frozen=True, slots=True)
class FrameChunk:
    """Frames for `request.frames[spec]`, in display order."""

    spec: int
    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    times: NDArray[np.float64]
    """(T,) the moments asked for, seconds since the first displayed frame of the video: k / rate, or evenly spread."""
    queue_seconds: float = 0.0
    decode_seconds: float = 0.0
    """As in MediaSummary, up to here: where no more is read, there is none."""


@dataclass(frozen=True, slots=True)
class WaveformChunk:
    """Sound for `request.waveforms[spec]`, without gaps or overlaps."""

    spec: int
    waveform: NDArray[np.float32]
    """(N,) in [-1, 1], finite."""
    start_seconds: float
    queue_seconds: float = 0.0
    decode_seconds: float = 0.0
    """As of frames."""


@dataclass(frozen=True, slots=True)
class MediaSummary:
    """What the decode cost. Always the last event; its absence means the file was not read to the end."""

    duration_seconds: float
    """Of what was asked for, from timestamps really seen."""
    frames_decoded: int
    frames_skipped: int
    """Frames of the stream that no one needed and the decoder was spared."""
    sampling: Sampling
    """`fast` falls back to `exact` where there are too few key frames."""
    queue_seconds: float
    """Waited for a free worker; 0 in process."""
    decode_seconds: float
    """Wall time of reading and decoding, without the time spent waiting for the consumer."""
    while_uploading: bool = False
    """Frames or sound were given back while the file was still being written."""


MediaEvent = MediaInfo | FrameChunk | WaveformChunk | MediaSummary
