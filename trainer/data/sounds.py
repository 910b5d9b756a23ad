"""Decodes each sound once, with the service's own decoder, into plain samples on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.checks import file_problems
from trainer.data.decode_sound import SoundEntry, decode_sound, read_entry
from trainer.data.filling import BrokenVideo, Kind, fill_cache, tell
from trainer.data.listing import Split, Video, list_files, read_listing
from trainer.data.splits import count_by_split

LAYOUT = 1
"""Part of every key: a new number makes all entries again."""


@dataclass(frozen=True)
class CachedSound:
    """A sound as the training loop sees it. The samples are mapped from disk, not read."""

    path: str
    label: int
    """-1 if labels are not asked for."""
    group: str
    waveform: NDArray[np.float32]
    """(N,) in [-1, 1], mono: exactly what the service decodes."""


@dataclass(frozen=True, slots=True)
class DecodedSound:
    """A sound that is in the cache."""

    video: Video
    entry: SoundEntry
    samples: Path

    @property
    def sha256(self) -> str:
        """Of the file."""
        return self.entry.sha256

    def facts(self) -> dict[str, float]:
        """The facts in which splits should be alike, by name and unit."""
        return {"duration (s)": self.entry.num_samples / self.entry.sample_rate}


@dataclass(frozen=True, slots=True)
class SoundSet:
    """Sounds, decoded, and what was left out."""

    decoded: list[DecodedSound]
    broken: list[BrokenVideo]

    def opened(self, split: Split, labels: Sequence[str] = ()) -> list[CachedSound]:
        """The sounds of one split, as training and evaluation take them; without `labels`, they have none."""
        return [open_sound(item, labels) for item in self.decoded if item.video.split == split]

    def tell_broken(self) -> None:
        """Names on standard error what is left out and why, and problems that do not depend on the labels' use."""
        tell(self.broken, file_problems(self.decoded, self.broken))

    def num_sounds(self) -> dict[str, int]:
        """By split, counting only decoded sounds."""
        return count_by_split(item.video for item in self.decoded)


SOUNDS = Kind(decode_sound, "trainer.data.decode_sound", read_entry, ".f32", "decoding sound")


def decode_sounds(
    videos: Sequence[Video], sample_rate: int, folder: Path, num_processes: int | None = None
) -> SoundSet:
    """Decodes what the cache `folder` lacks; both lists are in the order of `videos`.

    An entry's key is the content of the file, its start and end, and the sample rate (Hz), so a file may be moved or
    renamed. A file without sound counts as broken.
    """

    def key(video: Video, sha256: str) -> tuple[Any, ...]:
        return (LAYOUT, "sound", sha256, video.start_seconds, video.end_seconds, sample_rate)

    decoded, broken = fill_cache(videos, SOUNDS, sample_rate, key, folder, num_processes)
    return SoundSet([DecodedSound(*item) for item in decoded], broken)


def open_sound(decoded: DecodedSound, labels: Sequence[str] = ()) -> CachedSound:
    """The samples of a decoded sound, mapped copy-on-write for the same reasons as in `cache.open_video`."""
    waveform: NDArray[np.float32] = torch.from_file(
        str(decoded.samples), shared=False, size=decoded.entry.num_samples, dtype=torch.float32
    ).numpy()
    label = labels.index(decoded.video.label) if labels else -1
    return CachedSound(str(decoded.video.path), label, decoded.video.group, waveform)


def list_unlabelled(data: Path, group_pattern: str | None = None, prefix: str | None = None) -> list[Video]:
    """All files below a folder, or the rows of a CSV as in `read_listing`. Raises InvalidListing.

    `prefix`: as in `list_files` and `read_listing`.
    """
    if data.is_dir():
        return list_files(data, group_pattern, prefix)
    return read_listing(data, group_pattern, extra_columns=True, prefix=prefix or "")
