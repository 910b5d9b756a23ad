"""Decodes each video once, with the service's own decoder, into plain uint8 pixels on disk."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.decode import CacheEntry, CacheSpec, decode_video, read_entry
from trainer.data.filling import BrokenVideo, Kind, fill_cache
from trainer.data.listing import Video

LAYOUT = 1
"""Part of every key: a new number makes all entries again."""


@dataclass(frozen=True)
class CachedVideo:
    """A video as the training loop sees it. The pixels are mapped from disk, not read."""

    path: str
    label: int
    group: str
    frames: NDArray[np.uint8]
    """(N, H, W, 3) at the cache's rate, of the whole video, a little larger than the model's input."""
    clip: NDArray[np.uint8]
    """(T, H, W, 3): exactly what the service samples."""


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """A video that is in the cache."""

    video: Video
    entry: CacheEntry
    pixels: Path

    @property
    def sha256(self) -> str:
        """Of the file."""
        return self.entry.sha256

    def facts(self) -> dict[str, float]:
        """The facts in which splits should be alike, by name and unit."""
        return {
            "duration (s)": self.entry.duration_seconds,
            "frame rate": self.entry.frame_rate or 0.0,
            "width": self.entry.width,
            "height": self.entry.height,
        }


VIDEOS = Kind(decode_video, "trainer.data.decode", read_entry, ".rgb", "decoding")


def decode_all(
    videos: Sequence[Video], spec: CacheSpec, folder: Path, num_processes: int | None = None
) -> tuple[list[DecodedVideo], list[BrokenVideo]]:
    """Decodes what is not yet in the cache `folder`; both lists in the order of `videos`.

    An entry's key is the content of the file, its start and end, and the spec, so a file may be moved or renamed.
    """

    def key(video: Video, sha256: str) -> tuple[Any, ...]:
        return (LAYOUT, sha256, video.start_seconds, video.end_seconds, *astuple(spec))

    decoded, broken = fill_cache(videos, VIDEOS, spec, key, folder, num_processes)
    return [DecodedVideo(*item) for item in decoded], broken


def open_video(decoded: DecodedVideo, labels: Sequence[str]) -> CachedVideo:
    """The pixels of a decoded video, mapped copy-on-write: changing them does not change the cache.

    Unlike np.memmap, torch.from_file keeps no descriptor open; by default a process may have 1,024 of them.
    """
    entry = decoded.entry
    num_frame_bytes, num_clip_bytes = int(np.prod(entry.frames_shape)), int(np.prod(entry.clip_shape))
    pixels: NDArray[np.uint8] = torch.from_file(
        str(decoded.pixels), shared=False, size=num_frame_bytes + num_clip_bytes, dtype=torch.uint8
    ).numpy()
    return CachedVideo(
        path=str(decoded.video.path),
        label=labels.index(decoded.video.label),
        group=decoded.video.group,
        frames=pixels[:num_frame_bytes].reshape(entry.frames_shape),
        clip=pixels[num_frame_bytes:].reshape(entry.clip_shape),
    )
