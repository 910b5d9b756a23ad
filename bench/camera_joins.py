"""Cuts found in real clips that are joined into videos, with flashes and whip pans among them that are no cuts.

python -m bench.camera_joins --data DATA.csv --split test [--count 60] [--model camera]

If a clip has a cut of its own, finding it counts as an error. Needs the extra `bench` (OpenCV).
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.media.request import FrameSpec
from bench.camera import RATE, Method, by_model, by_thresholds, read_frames
from bench.videos import add_options, chosen
from trainer.camera_scores import TOLERANCE_SECONDS, Answers, count_events
from trainer.data.listing import Video
from trainer.data.picture_faults import compress
from trainer.data.scene_labels import CUT, stretches
from trainer.tables import table

SEED = 4_000_037
CLIPS = 4
"""Clips in one video."""
CLIP_SECONDS = (1.5, 4.0)
FLASH_STEPS = (1, 2)
GLARE = (0.4, 0.95)
WHIP_SECONDS = 0.5
WHIP_SPEED = (0.6, 1.5)
"""Picture widths a second, from the speed of the fastest pan in generated scenes."""
CRF = (20, 32)


@dataclass(frozen=True, slots=True)
class Joined:
    """How clips become one video, at any size."""

    videos: tuple[Video, ...]
    starts: tuple[float, ...]
    """Start of each clip, as a share of the frames that may be left out before it."""
    num_steps: tuple[int, ...]
    flashes: tuple[tuple[int, int, float], ...]
    """[first, last) step of the whole, and how bright."""
    whips: tuple[tuple[int, int, float], ...]
    """[first, last) step of the whole, and the speed: picture widths a second, to the right where positive."""
    crf: int

    def render(self, width: int, height: int) -> NDArray[np.uint8]:
        """(T, H, W, 3) at RATE."""
        parts = []
        for video, start, num_steps in zip(self.videos, self.starts, self.num_steps, strict=True):
            frames = read_frames(video.path, FrameSpec(width, height, "stretch", rate=RATE))
            first = round(start * (len(frames) - num_steps))
            parts.append(frames[first : first + num_steps])
        joined = np.concatenate(parts)
        for first, last, speed in self.whips:
            end = min(bound for bound in (*self.cuts, len(joined)) if bound >= last)
            shifts = np.minimum(np.arange(1, end - first + 1), last - first) * speed / RATE
            joined[first:end] = _pan(joined[first:end], shifts)
        for first, last, glare in self.flashes:
            bright = joined[first:last].astype(np.float32) / 255 * (1 + 2 * glare)
            joined[first:last] = (np.clip(np.maximum(bright, glare), 0, 1) * 255).round().astype(np.uint8)
        return compress(joined, RATE, self.crf, key_frame_distance=30)

    @property
    def cuts(self) -> NDArray[np.int64]:
        return np.cumsum(self.num_steps)[:-1]


def draw_joined(lengths: dict[Video, int], generator: np.random.Generator) -> Joined:
    """A video of CLIPS clips of `lengths` (steps by video), a flash in one and a whip pan in another."""
    able = [video for video, length in lengths.items() if length >= CLIP_SECONDS[0] * RATE]
    videos = [able[index] for index in generator.choice(len(able), CLIPS, replace=False)]
    wanted = np.round(generator.uniform(*CLIP_SECONDS, CLIPS) * RATE).astype(int)
    num_steps = [min(int(steps), lengths[video]) for video, steps in zip(videos, wanted, strict=True)]
    bounds = np.concatenate((np.zeros(1, int), np.cumsum(num_steps)))
    flashed, whipped = generator.choice(CLIPS, 2, replace=False)

    def place(clip: int, length: int) -> int:
        # Away from the clip's ends, since what happens at a cut is part of the cut.
        return int(generator.integers(bounds[clip] + 4, bounds[clip + 1] - length - 3))

    flash_length = int(generator.integers(FLASH_STEPS[0], FLASH_STEPS[1] + 1))
    flash, whip_length = place(flashed, flash_length), round(WHIP_SECONDS * RATE)
    whip = place(whipped, whip_length)
    return Joined(
        videos=tuple(videos),
        starts=tuple(generator.random(CLIPS).tolist()),
        num_steps=tuple(num_steps),
        flashes=((flash, flash + flash_length, float(generator.uniform(*GLARE))),),
        whips=((whip, whip + whip_length, float(generator.choice((-1, 1)) * generator.uniform(*WHIP_SPEED))),),
        crf=int(generator.integers(CRF[0], CRF[1] + 1)),
    )


def judge(joined: Sequence[Joined], method: Method) -> list[Answers]:
    """The answers about the cuts of the videos."""
    answers = []
    for index, one in enumerate(joined):
        said = method.answer(one.render(*method.size))
        holds = np.zeros_like(said)
        holds[one.cuts, CUT] = True
        answers.append(Answers(str(index), RATE, said, holds, np.ones_like(said)))
    return answers


def summary(joined: Sequence[Joined], found: dict[str, list[Answers]]) -> str:
    """All figures, a column for each method."""
    rows = [["", *found]]
    counts = {name: count_events(answers, "cut") for name, answers in found.items()}
    rows.append(["cuts found", *(f"{one.num_found} of {one.num_true}" for one in counts.values())])
    rows.append(["said where there is none", *(str(one.num_said - one.num_right) for one in counts.values())])
    for title, part in (("flashes taken for cuts", "flashes"), ("whip pans taken for cuts", "whips")):
        places = [getattr(one, part) for one in joined]
        cells = [_num_within(answers, places) for answers in found.values()]
        rows.append([title, *(f"{count} of {sum(map(len, places))}" for count in cells)])
    return table(rows)


def _num_within(answers: Sequence[Answers], places: Sequence[Sequence[tuple[int, int, float]]]) -> int:
    """At how many of the `places` a cut was said."""
    reach = int(TOLERANCE_SECONDS * RATE)
    count = 0
    for one, stretch in zip(answers, places, strict=True):
        said = [first for first, _ in stretches(one.said[:, CUT])]
        count += sum(any(first - reach <= step < last + reach for step in said) for first, last, _ in stretch)
    return count


def _pan(frames: NDArray[np.uint8], shifts: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The frames (T, H, W, 3) as seen by a camera that has turned by `shifts` (T,) picture widths.

    The picture goes on as its mirror image.
    """
    width = frames.shape[2]
    panorama = np.concatenate((frames, frames[:, :, ::-1]), axis=2)
    pixels = np.round(shifts * width).astype(int)
    return np.stack([np.roll(one, -shift, axis=1)[:, :width] for one, shift in zip(panorama, pixels, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--count", type=int, default=60, help="videos of four clips")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth clip: decoding takes longest")
    parser.add_argument("--model", action="append", default=[], help="repeatable: a model of camera work")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"))
    options = parser.parse_args()
    methods = {"differences": by_thresholds()} | {name: by_model(options.model_store, name) for name in options.model}
    videos = chosen(options)[:: options.every]
    lengths = {video: len(read_frames(video.path, FrameSpec(16, 12, "stretch", rate=RATE))) for video in videos}
    joined = [draw_joined(lengths, np.random.default_rng((SEED, index))) for index in range(options.count)]
    found = {name: judge(joined, method) for name, method in methods.items()}
    print(f"{len(joined)} videos of {CLIPS} clips\n\n{summary(joined, found)}")


if __name__ == "__main__":
    main()
