"""What `early_exit=true` saves and costs: frames, CPU seconds, and answers that change.

python -m bench.early_exit --model actions --data DATA.csv --split test [--loop 60]
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.models.store import list_versions, load_version
from bench.memory import loop
from bench.processes import cpu_seconds
from bench.service import ROOT, Service, running_service
from bench.videos import add_options, chosen
from trainer.data.listing import Video

STORE = ROOT / "model_store"


def ask(service: Service, model: str, videos: list[Video], **query: Any) -> tuple[list[dict[str, Any]], float]:
    """The answer for each video, and the CPU seconds for all."""
    before = cpu_seconds(service.pids())
    answers = [service.classify(video.path, model=model, **query) for video in videos]
    return answers, cpu_seconds(service.pids()) - before


def best(answer: dict[str, Any]) -> str:
    label: str = answer["results"][0]["labels"][0]["label"]
    return label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    add_options(parser)
    parser.add_argument("--loop", type=float, default=0.0, help="seconds that each video is made to last, by looping")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        videos = chosen(options)
        measure(options.model, looped(videos, options.loop, Path(folder)) if options.loop else videos)


def looped(videos: list[Video], seconds: float, folder: Path) -> list[Video]:
    """The videos, looped until they last `seconds`."""
    paths = [folder / f"{number}.mp4" for number in range(len(videos))]
    for video, path in zip(videos, paths, strict=True):
        loop(video.path, seconds, path)
    return [replace(video, path=path) for video, path in zip(videos, paths, strict=True)]


def measure(model: str, videos: list[Video]) -> None:
    rate = load_version(STORE / model / list_versions(STORE, model)[-1]).manifest.input.rate
    assert rate is not None
    with running_service(models=model) as service:
        ask(service, model, videos[:8], timeline=True)  # shapes seen first
        ask(service, model, videos[:8], early_exit=True)
        plain, plain_seconds = ask(service, model, videos)
        timelines, timeline_seconds = ask(service, model, videos, timeline=True)
        early, early_seconds = ask(service, model, videos, early_exit=True)
    settled = [number for number, answer in enumerate(early) if answer["results"][0]["settled"]]
    changed = [number for number in settled if best(early[number]) != best(plain[number])]
    used = sum(early[number]["results"][0]["frames_used"] for number in settled)
    there = sum(max(1.0, plain[number]["media"]["duration_seconds"] * rate) for number in settled)
    share = used / max(there, 1)
    print(f"{len(videos)} videos; settled before the end: {len(settled)}, on {share:.0%} of their frames")
    print(f"answers that change: {len(changed)}")
    for name, answers, seconds in (
        ("labels", plain, plain_seconds),
        ("labels and timeline", timelines, timeline_seconds),
        ("early_exit", early, early_seconds),
    ):
        right = sum(best(answer) == video.label for answer, video in zip(answers, videos, strict=True))
        print(f"{name:20} {right} of {len(videos)} right, {1000 * seconds / len(videos):.0f} ms of CPU for each")


if __name__ == "__main__":
    main()
