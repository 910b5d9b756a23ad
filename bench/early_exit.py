"""What `early_exit=true` spares and what it costs: frames, CPU seconds, and answers that change.

python -m bench.early_exit --model actions --data DATA.csv --split test
"""

import argparse
import os
from pathlib import Path
from typing import Any

from app.models.store import list_versions, load_version
from bench.service import ROOT, Service, running_service
from bench.videos import add_options, chosen
from trainer.data.listing import Video

STORE = ROOT / "model_store"


def cpu_seconds(service: Service) -> float:
    """Of all processes of the service so far, those that have ended included."""
    ticks = 0
    for pid in service.pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def ask(service: Service, model: str, videos: list[Video], **query: Any) -> tuple[list[dict[str, Any]], float]:
    """The result for each video, and the CPU seconds of all."""
    before = cpu_seconds(service)
    results = [service.classify(video.path, model=model, **query)["results"][0] for video in videos]
    return results, cpu_seconds(service) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    add_options(parser)
    options = parser.parse_args()
    videos = chosen(options)
    with running_service(models=options.model) as service:
        ask(service, options.model, videos[:8], timeline=True)  # shapes seen first
        ask(service, options.model, videos[:8], early_exit=True)
        plain, plain_seconds = ask(service, options.model, videos)
        timelines, timeline_seconds = ask(service, options.model, videos, timeline=True)
        early, early_seconds = ask(service, options.model, videos, early_exit=True)
        lengths = [
            service.classify(video.path, model=options.model, timeline=True)["media"]["duration_seconds"]
            for video in videos
        ]
    rate = load_version(STORE / options.model / list_versions(STORE, options.model)[-1]).manifest.input.rate
    assert rate is not None
    settled = [number for number, result in enumerate(early) if result["settled"]]
    changed = [n for n in settled if early[n]["labels"][0]["label"] != plain[n]["labels"][0]["label"]]
    used = sum(early[n]["frames_used"] for n in settled)
    there = sum(max(1.0, lengths[n] * rate) for n in settled)
    print(
        f"{len(videos)} videos; settled before the end: {len(settled)}, on {used / max(there, 1):.0%} of their frames"
    )
    print(f"answers that change: {len(changed)} of {len(videos)}")
    for name, results, seconds in (
        ("labels", plain, plain_seconds),
        ("labels and timeline", timelines, timeline_seconds),
        ("early_exit", early, early_seconds),
    ):
        right = sum(result["labels"][0]["label"] == video.label for result, video in zip(results, videos, strict=True))
        print(f"{name:20} {right} of {len(videos)} right, {1000 * seconds / len(videos):.0f} ms of CPU for each")


if __name__ == "__main__":
    main()
