"""Each video decoded once, through the decoder of the service, into plain uint8 pixels on disk."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.decode import CacheEntry, CacheSpec, decode_video, read_entry
from trainer.data.listing import Video
from trainer.data.workers import JobLimits, run_jobs
from trainer.progress import progress

LAYOUT = 1
"""Part of every key; another number makes all entries again."""


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


@dataclass(frozen=True, slots=True)
class BrokenVideo:
    """A video that is left out, and why."""

    video: Video
    reason: str


def decode_all(
    videos: Sequence[Video],
    spec: CacheSpec,
    folder: Path,
    num_processes: int | None = None,
    limits: JobLimits = JobLimits(),  # noqa: B008 - frozen
) -> tuple[list[DecodedVideo], list[BrokenVideo]]:
    """Decodes what is not yet in the cache `folder`; both lists in the order of `videos`.

    The key of an entry is the content of the file, its start and end, and the spec: a file may be moved or renamed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as threads:
        digests = list(threads.map(sha256_of, [video.path for video in videos]))
    places = [
        folder / f"{_key(video, digest, spec)}.rgb" if digest else None
        for video, digest in zip(videos, digests, strict=True)
    ]
    missing = {
        path: (video, digest, spec, path, path.with_suffix(f".{os.getpid()}.partial"))
        for video, digest, path in zip(videos, digests, places, strict=True)
        if path and read_entry(path) is None
    }
    jobs = list(missing.values())
    ends = run_jobs(decode_video, jobs, num_processes or os.cpu_count() or 1, limits, ["trainer.data.decode"])
    reasons: dict[Path, str | None] = {}
    for index, reason in progress(ends, len(jobs), "decoding"):
        *_, done, partial = jobs[index]
        reasons[done] = reason
        partial.unlink(missing_ok=True)

    decoded, broken = [], []
    for video, path in zip(videos, places, strict=True):
        entry = read_entry(path) if path else None
        if path and entry:
            decoded.append(DecodedVideo(video, entry, path))
        else:
            reason = reasons.get(path) if path else "cannot be read"
            broken.append(BrokenVideo(video, reason or "cannot be read"))
    return decoded, broken


def open_video(decoded: DecodedVideo, labels: Sequence[str]) -> CachedVideo:
    """The pixels of a decoded video, mapped copy-on-write: nothing done to them reaches the cache.

    torch.from_file, unlike np.memmap, keeps no descriptor open, of which a process may have 1,024 by default.
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


def sha256_of(path: Path) -> str | None:
    """The digest of a file in hexadecimal, None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _key(video: Video, sha256: str, spec: CacheSpec) -> str:
    parts = (LAYOUT, sha256, video.start_seconds, video.end_seconds, *astuple(spec))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
