"""A long video answered in events: time to the first event, time and memory by length, and how soon everything is
free when the client leaves.

python -m bench.events VIDEO [--model motion] [--lengths 60 600 3600 7200]

Memory is each process's peak, however short. Sampling would miss it: a video of a minute takes only a second.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import httpx

from bench.memory import loop
from bench.processes import cpu_seconds, forget_peaks, peak_mb
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
    """Seconds from a client's departure until its place and its decoder are free."""
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
    parser.add_argument("--lengths", type=float, nargs="+", default=[60, 600, 3600, 7200], help="seconds of video")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_service(8125, models=options.model) as service:
        videos = [Path(folder) / f"{seconds:g}.mp4" for seconds in options.lengths]
        for seconds, video in zip(options.lengths, videos, strict=True):
            loop(options.video, seconds, video)
        for _ in range(3):  # shapes seen first
            read_events(service, videos[0], options.model)
        for seconds, video in zip(options.lengths, videos, strict=True):
            pids = service.pids()
            forget_peaks(pids)
            before = cpu_seconds(pids)
            first, last, count = read_events(service, video, options.model)
            spent = cpu_seconds(pids) - before
            server, *others = (peak_mb(pid) for pid in pids)
            print(
                f"{seconds:6g} s of video: first event after {first:.2f} s, last after {last:.1f} s; "
                f"{1000 * spent / seconds:.2f} ms of CPU for a second; {count} events; "
                f"server {server:.1f} MB, largest worker {max(others):.1f} MB"
            )
        found = sorted(seconds_until_free(service, videos[-1], options.model) for _ in range(5))
        print(f"a client leaves: all is free after {', '.join(f'{1000 * seconds:.0f}' for seconds in found)} ms")


if __name__ == "__main__":
    main()
