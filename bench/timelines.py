"""How well timelines find the parts of a video, on seeded concatenations of three clips of different classes.

python -m bench.timelines --model actions --data DATA.csv --split test [--count 250] [--seed 0]

It reports the share of time with the right label, and the share of true boundaries that have a boundary of the timeline
within one second.
"""

import argparse
import random
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from bench.service import running_service
from bench.videos import add_options, chosen
from trainer.data.listing import Video

FRAME_RATE = 25
SIZE = (160, 120)
TOLERANCE_SECONDS = 1.0

Part = tuple[float, float, str]


def concatenate(videos: list[Video], output: Path) -> list[Part]:
    """Writes the videos one after the other, and tells (start_seconds, end_seconds, label) of each."""
    parts: list[Part] = []
    num_frames = 0
    with av.open(str(output), "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, FRAME_RATE)
        for video in videos:
            first = num_frames
            for frame in _frames(video.path):
                frame.pts, frame.time_base = num_frames, Fraction(1, FRAME_RATE)
                container.mux(stream.encode(frame))
                num_frames += 1
            parts.append((first / FRAME_RATE, num_frames / FRAME_RATE, video.label))
        container.mux(stream.encode(None))
    return parts


def _frames(path: Path) -> Iterator[av.VideoFrame]:
    """Frames at FRAME_RATE: at each tick the first one that begins no more than half a tick earlier.

    In slower videos that is the next frame.
    """
    with av.open(str(path)) as container:
        tick = 0
        for frame in container.decode(video=0):
            seconds = frame.time  # read once, since the frame that is given out gets another time
            while seconds is not None and seconds * FRAME_RATE >= tick - 0.5:
                yield frame.reformat(*SIZE, format="yuv420p")
                tick += 1


def judge(parts: list[Part], segments: list[dict[str, Any]]) -> tuple[float, float, int]:
    """(seconds with the right label, seconds in all, boundaries found within the tolerance)."""
    right = sum(
        max(0.0, min(end, segment["end_seconds"]) - max(start, segment["start_seconds"]))
        for start, end, label in parts
        for segment in segments
        if segment["label"] == label
    )
    found = [segment["start_seconds"] for segment in segments[1:]]
    boundaries = [start for start, _, _ in parts[1:]]
    hits = sum(any(abs(boundary - place) <= TOLERANCE_SECONDS for place in found) for boundary in boundaries)
    return right, parts[-1][1], hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    add_options(parser)
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    by_label: dict[str, list[Video]] = {}
    for video in chosen(options):
        by_label.setdefault(video.label, []).append(video)
    chance = random.Random(options.seed)
    right = total = 0.0
    hits = num_segments = 0
    with running_service(models=options.model) as service, tempfile.TemporaryDirectory() as folder:
        for _ in range(options.count):
            three = [chance.choice(by_label[label]) for label in chance.sample(sorted(by_label), 3)]
            path = Path(folder) / "three.mp4"
            parts = concatenate(three, path)
            segments = service.classify(path, model=options.model, timeline=True)["results"][0]["segments"]
            seconds, all_seconds, found = judge(parts, segments)
            right, total, hits = right + seconds, total + all_seconds, hits + found
            num_segments += len(segments)
    print(f"{options.count} concatenations of three clips, {total:.0f} s")
    print(f"time with the right label: {right / total:.3f}")
    print(f"boundaries within {TOLERANCE_SECONDS:g} s: {hits / (2 * options.count):.3f}")
    print(f"segments per video: {num_segments / options.count:.2f} (3 are there)")


if __name__ == "__main__":
    main()
