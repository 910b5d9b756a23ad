"""Decodes files once, in processes that may die, into a cache keyed by what the files hold."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from trainer.data.listing import Video
from trainer.data.splits import copies_held_back
from trainer.data.workers import JobLimits, NoSpaceError, run_jobs
from trainer.progress import progress

E = TypeVar("E")
ABSENT = "no such file"
_FAILED: dict[Path, str] = {}
"""Why decoding to these paths failed. This process does not try again: `tune` asks for the same data in each trial, and
a file that hangs takes its whole deadline."""


@dataclass(frozen=True, slots=True)
class BrokenVideo:
    """A file that is left out, and why: it cannot be decoded, or another split holds it back."""

    video: Video
    reason: str


@dataclass(frozen=True, slots=True)
class Kind(Generic[E]):
    """What the cache keeps of each file, and how to make it."""

    decode: Callable[..., None]
    """(video, sha256, wanted, path, partial): writes `path` and its entry by way of `partial`. Defined in `module`."""
    module: str
    """Imported before workers start."""
    read_entry: Callable[[Path], E | None]
    """What is known about `path`; None if it is not decoded yet."""
    suffix: str
    told: str
    """What the progress bar says."""


def fill_cache(
    videos: Sequence[Video],
    kind: Kind[E],
    wanted: Any,
    key: Callable[[Video, str], tuple[Any, ...]],
    folder: Path,
    num_processes: int | None,
) -> tuple[list[tuple[Video, E, Path]], list[BrokenVideo]]:
    """Decodes what `folder` lacks. Gives what is there then, and what is left out, in the order of `videos`.

    A video is left out if a split held back from its own has the same content, whatever the file names. `key` gives
    everything that an entry depends on for a video with that SHA-256; never the file's name, so that it may be moved.
    `wanted` goes to the worker. Raises NoSpaceError if the folder has no room for everything.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digests, unread = _digests(videos)
    copies = _copies(videos, digests)
    places = [
        folder / f"{_name(key(video, digest))}{kind.suffix}" if digest and video not in copies else None
        for video, digest in zip(videos, digests, strict=True)
    ]
    missing = {
        path: (video, digest, wanted, path, path.with_suffix(f".{os.getpid()}.partial"))
        for video, digest, path in zip(videos, digests, places, strict=True)
        if path and path not in _FAILED and kind.read_entry(path) is None
    }
    jobs = list(missing.values())
    try:
        num_processes = num_processes or os.cpu_count() or 1
        with closing(run_jobs(kind.decode, jobs, num_processes, JobLimits(), [kind.module])) as ends:
            for index, reason in progress(ends, len(jobs), kind.told):
                *_, done, partial = jobs[index]
                partial.unlink(missing_ok=True)
                if reason:
                    _FAILED[done] = reason
    except NoSpaceError as error:
        raise NoSpaceError(f"{folder} has no room for what is decoded: another --cache, or make some") from error
    finally:
        for *_, partial in jobs:  # of jobs that did not finish
            partial.unlink(missing_ok=True)

    decoded, broken = [], []
    for video, path in zip(videos, places, strict=True):
        entry = kind.read_entry(path) if path else None
        if path and entry:
            decoded.append((video, entry, path))
        elif video in copies:
            broken.append(copies[video])
        else:
            reason = _FAILED.get(path) if path else unread.get(video.path)
            broken.append(BrokenVideo(video, reason or "cannot be read"))
    return decoded, broken


def find_copies(videos: Sequence[Video]) -> dict[Video, BrokenVideo]:
    """The videos that `fill_cache` would leave out for a copy in another split; it needs all splits to find them."""
    return _copies(videos, _digests(videos)[0])


def tell(broken: Iterable[BrokenVideo], problems: Iterable[str] = ()) -> None:
    """Names on standard error what is left out and what else is wrong."""
    for item in broken:
        sys.stderr.write(f"left out: {item.video.path}: {item.reason}\n")
    for problem in problems:
        sys.stderr.write(f"warning: {problem}\n")


def _copies(videos: Sequence[Video], digests: Sequence[str | None]) -> dict[Video, BrokenVideo]:
    copies = copies_held_back(videos, digests)
    return {video: BrokenVideo(video, f"also in {other.split}, as {other.path}") for video, other in copies.items()}


def _digests(videos: Sequence[Video]) -> tuple[list[str | None], dict[Path, str]]:
    """SHA-256 of the files, None for one that cannot be read; and the reasons, by path."""
    unread: dict[Path, str] = {}

    def digest(path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            unread[path] = ABSENT
        except OSError as error:
            unread[path] = error.strerror or str(error)
        return None

    with ThreadPoolExecutor() as threads:
        return list(threads.map(digest, [video.path for video in videos])), unread


def _name(parts: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
