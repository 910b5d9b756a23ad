"""What `sampling=fast` costs in accuracy and saves in work, on labelled videos encoded with regular key frames.

python -m bench.fast --data DATA.csv --split test [--key-seconds 1] [--folder runs/fast]

Accuracy is measured at the videos' own size. Where key frames are too few, `fast` falls back to `exact`; figures are
also given for the other videos alone. Of those, some of all lengths are enlarged to 1280 x 720: for the CPU time of
requests one after the other, and how many are answered a second when four are asked at once.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np

from bench.load import median
from bench.processes import cpu_seconds
from bench.service import ROOT, Service, running_service
from bench.videos import add_options, chosen, part_of
from trainer.data.listing import Video

LARGE = (1280, 720)
_NUM_LARGE = 12  # videos, to measure what it saves
_NUM_CLIENTS = 4


def encode_again(video: Path, path: Path, key_seconds: float, size: tuple[int, int] | None = None) -> None:
    """The video as H.264 in `path`, at its own size or at `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(video)) as source, av.open(str(path), "w") as output:
        taken = source.streams.video[0]
        rate = taken.average_rate
        assert rate is not None
        gap = round(key_seconds * rate)
        params = f"keyint={gap}:min-keyint={gap}:scenecut=0"
        stream = output.add_stream("libx264", rate=rate, options={"x264-params": params})
        stream.width, stream.height = size or (taken.width, taken.height)
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.decode(taken)):
            picture = frame.reformat(stream.width, stream.height, "yuv420p")
            picture.pts, picture.time_base = number, 1 / rate
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def encode_all(sources: list[Path], folder: Path, key_seconds: float) -> dict[Path, Path]:
    """The files encoded again, by source."""
    # Numbered, since files in two folders may share a name.
    encoded = {source: folder / f"{number}-{source.stem}.mp4" for number, source in enumerate(sources)}
    for source, path in encoded.items():
        encode_again(source, path, key_seconds)
    return encoded


def encode_large(sources: list[Path], folder: Path, key_seconds: float) -> list[Path]:
    """Some of the files encoded again at LARGE, from the shortest to the longest."""
    by_length = sorted(sources, key=num_frames)
    places = {round(place) for place in np.linspace(0, len(sources) - 1, _NUM_LARGE)}
    taken = [by_length[place] for place in sorted(places)]
    large = [folder / f"{number}-{source.stem}.mp4" for number, source in enumerate(taken)]
    for source, path in zip(taken, large, strict=True):
        encode_again(source, path, key_seconds, LARGE)
    return large


def num_frames(video: Path) -> int:
    """As many as it has packets."""
    with av.open(str(video)) as container:
        return sum(packet.size > 0 for packet in container.demux(video=0))


def tell_accuracy(service: Service, model: str, videos: list[Video], encoded: dict[Path, Path]) -> list[Path]:
    """Prints how many answers are right, exact and fast; the videos that are read fast.

    `encoded`: by the path of the videos.
    """
    right = {"exact": 0, "fast": 0, "exact, of those": 0}
    read_fast: list[Path] = []
    num_alike = 0
    for video in videos:
        query = {"model": model, "top_k": 1, **part_of(video)}
        answers = {
            sampling: service.classify(encoded[video.path], sampling=sampling, **query)["results"][0]
            for sampling in ("exact", "fast")
        }
        labels = {sampling: answer["labels"][0]["label"] for sampling, answer in answers.items()}
        right["exact"] += labels["exact"] == video.label
        if answers["fast"]["sampling"] == "fast":
            read_fast.append(video.path)
            right["fast"] += labels["fast"] == video.label
            right["exact, of those"] += labels["exact"] == video.label
            num_alike += labels["fast"] == labels["exact"]
    count = len(videos)
    fast_in_all = right["exact"] - right["exact, of those"] + right["fast"]
    print(f"exact: {right['exact']} of {count} right; fast, where it falls back included: {fast_in_all}")
    used = f"fast was used for {len(read_fast)}: {right['fast']} right, exact {right['exact, of those']}"
    print(f"{used}, alike {num_alike}", flush=True)
    return list(dict.fromkeys(read_fast))


def tell_work(service: Service, model: str, paths: list[Path], rounds: int) -> None:
    """Prints the CPU time of exact and fast for each video, and the median of the ratios."""
    ratios = []
    for path in paths:
        seconds: dict[str, list[float]] = {"exact": [], "fast": []}
        for _ in range(rounds):
            for sampling, found in seconds.items():
                before = cpu_seconds(service.pids())
                for _ in range(3):  # the kernel counts in hundredths of a second
                    answer = service.classify(path, model=model, sampling=sampling)["results"][0]
                found.append((cpu_seconds(service.pids()) - before) / 3)
            assert answer["sampling"] == "fast", f"{path.name} has too few key frames"
        exact, fast = median(seconds["exact"]), median(seconds["fast"])
        ratios.append(exact / fast)
        megabytes = path.stat().st_size / 1e6
        print(f"{path.name}, {megabytes:.1f} MB: exact {exact:.3f} s, fast {fast:.3f} s, {ratios[-1]:.1f}x")
    print(f"fast takes a {median(ratios):.1f}th of the CPU time of exact (median)")


def tell_rate(service: Service, model: str, paths: list[Path], rounds: int) -> None:
    """Prints how many of the videos are answered a second, exact and fast, and the ratio."""
    rates: dict[str, list[float]] = {"exact": [], "fast": []}
    with ThreadPoolExecutor(_NUM_CLIENTS) as clients:
        for _ in range(rounds):
            for sampling, found in rates.items():
                ask = partial(service.classify, model=model, sampling=sampling)
                began = time.perf_counter()
                list(clients.map(ask, paths * 2))
                found.append(2 * len(paths) / (time.perf_counter() - began))
    exact, fast = median(rates["exact"]), median(rates["fast"])
    print(f"{_NUM_CLIENTS} at once: exact {exact:.2f} a second, fast {fast:.2f}, {fast / exact:.1f} times as many")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="actions")
    add_options(parser)
    parser.add_argument("--key-seconds", type=float, default=1.0, help="between key frames")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs/fast", help="where the encoded videos go")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    videos = chosen(options, parts=True)
    sources = list(dict.fromkeys(video.path for video in videos))
    encoded = encode_all(sources, options.folder / f"{options.key_seconds:g}", options.key_seconds)
    with running_service(models=options.model) as service:
        read_fast = tell_accuracy(service, options.model, videos, encoded)
        if not read_fast:
            return
        large = encode_large(read_fast, options.folder / f"{options.key_seconds:g}" / "large", options.key_seconds)
        tell_work(service, options.model, large, options.rounds)
        tell_rate(service, options.model, large, options.rounds)


if __name__ == "__main__":
    main()
