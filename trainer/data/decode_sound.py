"""Decodes the sound of one file into the cache. Runs in worker processes, so it never imports torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from app.errors import InvalidMedia
from app.media.decode import read_media
from app.media.request import MediaInfo, MediaLimits, MediaRequest, WaveformChunk, WaveformSpec
from trainer.data.listing import Video

LIMITS = MediaLimits()
CHUNK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class SoundEntry:
    """What is known about a decoded sound. Its samples lie beside it: mono float32 in [-1, 1]."""

    sha256: str
    """Of the file."""
    sample_rate: int
    """Hz, as decoded for the model."""
    num_samples: int
    audio_codec: str | None


def decode_sound(video: Video, sha256: str, sample_rate: int, samples: Path, partial: Path) -> None:
    """Writes the sound of `video` to `samples`, and its SoundEntry to `samples` with `.json`.

    Writes both to `partial` first, and the entry last: if it is there, the samples are complete.
    Raises ServiceError (InvalidMedia if there is no sound) or OSError.
    """
    request = MediaRequest(
        waveforms=(WaveformSpec(sample_rate, CHUNK_SECONDS * sample_rate),),
        start_seconds=video.start_seconds,
        end_seconds=video.end_seconds,
    )
    info: MediaInfo | None = None
    num_samples = 0
    with video.path.open("rb") as file, partial.open("wb") as output:
        for event in read_media(file, request, LIMITS):
            if isinstance(event, MediaInfo):
                info = event
            elif isinstance(event, WaveformChunk):
                output.write(event.waveform.data)
                num_samples += len(event.waveform)
    if info is None or not num_samples:
        raise InvalidMedia("No sound could be decoded.")
    entry = SoundEntry(sha256, sample_rate, num_samples, info.audio_codec)
    partial.replace(samples)
    partial.write_text(json.dumps(asdict(entry)), encoding="utf-8")
    partial.replace(samples.with_suffix(".json"))


def read_entry(samples: Path) -> SoundEntry | None:
    """The entry of `samples`, or None if they are not decoded yet."""
    try:
        return SoundEntry(**json.loads(samples.with_suffix(".json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
