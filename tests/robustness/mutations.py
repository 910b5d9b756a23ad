"""Files that were whole once: the same ones for the same seed."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.media_maker import moving_frames, sine, write_sound, write_video

CLIPS = Path(__file__).parents[2].parent / "shared/data/clips"
MAX_SEED_BYTES = 400_000
"""Of a real clip: most of a larger one is picture data, and mutating it is mutating the same code again."""


def made_files(folder: Path) -> list[bytes]:
    """Small videos and sounds of several containers and codecs."""
    frames, sound = moving_frames(12, 48, 32), sine(0.5, 16_000)
    ways: list[tuple[str, str, dict[str, object]]] = [
        ("a.mp4", "libx264", {"waveform": sound}),
        ("b.mkv", "libx264", {"options": {"bf": "2"}}),
        ("c.webm", "libvpx", {}),
        ("d.avi", "mpeg4", {"waveform": sound, "sound_codec": "mp3"}),
        ("e.ts", "mpeg2video", {}),
        ("f.gif", "gif", {"pixels": "rgb8"}),
        ("g.mov", "mjpeg", {"pixels": "yuvj420p"}),
    ]
    files = [write_video(folder / name, frames, 12, codec, **options) for name, codec, options in ways]  # type: ignore[arg-type]
    files += [
        write_sound(folder / "h.wav", sound, 16_000),
        write_sound(folder / "i.flac", np.tile(sound, 2), 16_000, "flac"),
        write_sound(folder / "j.mp3", sound, 16_000, "mp3"),
        write_sound(folder / "k.ogg", sound, 48_000, "libopus"),
    ]
    return [file.read_bytes() for file in files]


def real_files() -> list[bytes]:
    """The real clips and sounds that are small; none where the shared data is not there."""
    if not CLIPS.is_dir():
        return []
    return [path.read_bytes() for path in sorted(CLIPS.iterdir()) if path.stat().st_size <= MAX_SEED_BYTES]


def mutated(files: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` files; the n-th depends on `files`, `seed` and n alone."""
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        content = bytearray(chance.choice(files))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            if len(content) > 16:
                chance.choice(_WAYS)(content, chance, files)
        yield bytes(content)


def _flip_bits(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 4, 16, 64))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _flip_header_bits(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 4, 16))):
        content[chance.randrange(min(512, len(content)))] ^= 1 << chance.randrange(8)


def _put_extreme_number(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(content) - 8)
    number = chance.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    content[at : at + 4] = number.to_bytes(4, chance.choice(("big", "little")))


def _cut(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del content[chance.randrange(8, len(content)) :]


def _remove(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(1, len(content))  # a byte stays: no body at all is another matter, and answered with 400
    del content[at : at + chance.choice((1, 4, 100, 5000))]


def _repeat(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(content))
    content[at:at] = content[at : at + chance.choice((4, 100, 5000))]


def _blank(content: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at, length = chance.randrange(len(content)), chance.choice((4, 100, 5000))
    content[at : at + length] = bytes(len(content[at : at + length]))


def _splice(content: bytearray, chance: random.Random, files: Sequence[bytes]) -> None:
    other = chance.choice(files)
    content[chance.randrange(len(content)) :] = other[chance.randrange(len(other)) :]


_WAYS = (_flip_bits, _flip_header_bits, _put_extreme_number, _cut, _remove, _repeat, _blank, _splice)
