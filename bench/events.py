"""A long video answered in events: when the first comes, how the time goes on, and how much memory it takes; and how
soon everything is free when the client leaves.

python -m bench.events VIDEO [--model motion] [--short 600] [--long 7200]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import httpx

from bench.memory import loop
from bench.processes import MemoryWatch
from bench.service import Service, running_service


def read_events(service: Service, video: Path, model: str) -> tuple[float, float, int]:
    """(seconds from the upload's end to the first event, to the last, number of events) of one timeline."""
    url, headers = f"/classify?model={model}&timeline=true", {"Accept": "application/x-ndjson"}
    times: list[float] = []
    lines: list[str] = []
    with video.open("rb") as file, service.client.stream("POST", url, content=file, headers=headers) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            times.append(time.perf_counter())
            lines = [line]
    timing = json.loads(lines[-1])["timing"]
    whole = timing["total_seconds"] - timing["upload_seconds"]
    return whole - (times[-1] - times[0]), whole, len(times)


def seconds_until_free(service: Service, video: Path, model: str) -> float:
    """From the moment a client leaves to the moment that its place and its decoder are free."""
    with httpx.Client(base_url=service.client.base_url, timeout=60) as leaver:
        url = f"/classify?model={model}&timeline=true"
        headers = {"Accept": "application/x-ndjson"}
        with leaver.stream("POST", url, content=video.read_bytes(), headers=headers) as response:
            next(response.iter_lines())
    left = time.perf_counter()
    while True:
        metrics = service.client.get("/metrics").text.splitlines()
        values = {line.split(" ")[0]: float(line.split(" ")[1]) for line in metrics if not line.startswith("#")}
        if (
            not values["afterframe_requests_in_flight"]
            and values["afterframe_decoder_workers_idle"] == values["afterframe_decoder_workers"]
            and not values["afterframe_inference_queue_depth"]
        ):
            return time.perf_counter() - left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="motion")
    parser.add_argument("--short", type=float, default=600)
    parser.add_argument("--long", type=float, default=7200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_service(8125, models=options.model) as service:
        lengths = (options.short, options.long)
        videos = [Path(folder) / f"{seconds:g}.mp4" for seconds in lengths]
        for seconds, video in zip(lengths, videos, strict=True):
            loop(options.video, seconds, video)
        read_events(service, videos[0], options.model)  # shapes seen first
        for seconds, video in zip(lengths, videos, strict=True):
            with MemoryWatch(service.process.pid) as watch:
                first, last, count = read_events(service, video, options.model)
            print(
                f"{seconds:6g} s of video: first event after {first:.2f} s, last after {last:.1f} s"
                f" ({1000 * last / seconds:.2f} ms for a second), {count} events, {watch.peak_mb:.1f} MB at most"
            )
        found = sorted(seconds_until_free(service, videos[1], options.model) for _ in range(5))
        print(f"a client leaves: all is free after {', '.join(f'{1000 * seconds:.0f}' for seconds in found)} ms")


if __name__ == "__main__":
    main()
