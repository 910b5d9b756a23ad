"""Each sound decoded once, through the decoder of the service, into plain samples on disk."""

import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.cache import BrokenVideo, sha256_of
from trainer.data.decode_sound import SoundEntry, decode_sound, read_entry
from trainer.data.listing import Split, Video, list_files, read_listing
from trainer.data.workers import JobLimits, run_jobs
from trainer.progress import progress

LAYOUT = 1
"""Part of every key; another number makes all entries again."""


@dataclass(frozen=True)
class CachedSound:
    """A sound as the training loop sees it. The samples are mapped from disk, not read."""

    path: str
    label: int
    """-1 where the labels are not asked for."""
    group: str
    waveform: NDArray[np.float32]
    """(N,) in [-1, 1], mono: exactly what the service decodes."""


@dataclass(frozen=True, slots=True)
class DecodedSound:
    """A sound that is in the cache."""

    video: Video
    entry: SoundEntry
    samples: Path


@dataclass(frozen=True, slots=True)
class SoundSet:
    """Sounds, decoded, and what was left out."""

    decoded: list[DecodedSound]
    broken: list[BrokenVideo]

    def opened(self, split: Split, labels: Sequence[str] = ()) -> list[CachedSound]:
        """The sounds of one split as training and evaluation take them; without `labels`, they have none."""
        return [open_sound(item, labels) for item in self.decoded if item.video.split == split]

    def tell_broken(self) -> None:
        """Names on standard error what is left out, and why."""
        for item in self.broken:
            sys.stderr.write(f"left out: {item.video.path}: {item.reason}\n")

    def num_sounds(self) -> dict[str, int]:
        """By split, those that are decoded."""
        splits: tuple[Split, ...] = ("train", "val", "test")
        counts = {split: sum(item.video.split == split for item in self.decoded) for split in splits}
        return {split: count for split, count in counts.items() if count}


def decode_sounds(
    videos: Sequence[Video],
    sample_rate: int,
    folder: Path,
    num_processes: int | None = None,
    limits: JobLimits = JobLimits(),  # noqa: B008 - frozen
) -> SoundSet:
    """Decodes what is not yet in the cache `folder`; both lists are in the order of `videos`.

    The key of an entry is the content of the file, its start and end, and the sample rate (Hz): a file may be moved
    or renamed. A file without sound is among the broken ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as threads:
        digests = list(threads.map(sha256_of, [video.path for video in videos]))
    places = [
        folder / f"{_key(video, digest, sample_rate)}.f32" if digest else None
        for video, digest in zip(videos, digests, strict=True)
    ]
    jobs = [
        (video, digest, sample_rate, path, path.with_suffix(f".{os.getpid()}.partial"))
        for path, (video, digest) in dict(zip(places, zip(videos, digests, strict=True), strict=True)).items()
        if path and read_entry(path) is None
    ]
    ends = run_jobs(decode_sound, jobs, num_processes or os.cpu_count() or 1, limits, ["trainer.data.decode_sound"])
    reasons: dict[Path, str | None] = {}
    for index, reason in progress(ends, len(jobs), "decoding sound"):
        *_, done, partial = jobs[index]
        reasons[done] = reason
        partial.unlink(missing_ok=True)

    found = SoundSet([], [])
    for video, path in zip(videos, places, strict=True):
        entry = read_entry(path) if path else None
        if path and entry:
            found.decoded.append(DecodedSound(video, entry, path))
        else:
            reason = reasons.get(path) if path else None
            found.broken.append(BrokenVideo(video, reason or "cannot be read"))
    return found


def open_sound(decoded: DecodedSound, labels: Sequence[str] = ()) -> CachedSound:
    """The samples of a decoded sound, mapped copy-on-write as `cache.open_video` maps pixels, and for its reasons."""
    waveform: NDArray[np.float32] = torch.from_file(
        str(decoded.samples), shared=False, size=decoded.entry.num_samples, dtype=torch.float32
    ).numpy()
    label = labels.index(decoded.video.label) if labels else -1
    return CachedSound(str(decoded.video.path), label, decoded.video.group, waveform)


def list_unlabelled(data: Path) -> list[Video]:
    """All files below a folder, or the rows of a CSV as `read_listing` has them. Raises InvalidListing."""
    return list_files(data) if data.is_dir() else read_listing(data, extra_columns=True)


def _key(video: Video, sha256: str, sample_rate: int) -> str:
    parts = (LAYOUT, "sound", sha256, video.start_seconds, video.end_seconds, sample_rate)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
