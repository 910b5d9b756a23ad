"""Peak memory of server and decoder workers for a short video and for a long one made of it by looping.

python -m bench.memory VIDEO [--model actions] [--short 10] [--long 7200]
"""

import argparse
import tempfile
import time
from pathlib import Path

import av

from bench.processes import forget_peaks, peak_mb
from bench.service import Service, running_service


def loop(video: Path, seconds: float, output: Path) -> None:
    """Writes the video's packets again and again, as they are, until it lasts `seconds`."""
    with av.open(str(video)) as source, av.open(str(output), "w") as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        assert stream.time_base is not None
        first = min(packet.dts for packet in packets if packet.dts is not None)
        length = max((packet.pts or 0) + (packet.duration or 0) for packet in packets) - first
        offset = 0
        while offset * stream.time_base < seconds:
            source.seek(0, stream=stream)
            for packet in source.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = copy
                container.mux(packet)
            offset += length


def peaks(service: Service, video: Path, model: str) -> tuple[float, float, float]:
    """(server's and largest other process's peak resident MB, seconds) of one timeline."""
    forget_peaks(service.pids())
    started = time.perf_counter()
    service.classify(video, model=model, timeline=True)
    seconds = time.perf_counter() - started
    server, *others = [peak_mb(pid) for pid in service.pids()]
    return server, max(others), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="actions")
    parser.add_argument("--short", type=float, default=10)
    parser.add_argument("--long", type=float, default=7200)
    options = parser.parse_args()
    settings = {"models": options.model, "deadline_seconds": 3600}
    with tempfile.TemporaryDirectory() as folder, running_service(**settings) as service:
        short, long = Path(folder) / "short.mp4", Path(folder) / "long.mp4"
        loop(options.video, options.short, short)
        loop(options.video, options.long, long)
        peaks(service, short, options.model)  # shapes seen first
        rows = [peaks(service, video, options.model) for video in (short, long)]
    for name, (server, worker, seconds) in zip((options.short, options.long), rows, strict=True):
        print(f"{name:6g} s of video: server {server:.1f} MB, largest worker {worker:.1f} MB, {seconds:.1f} s")
    (short_server, short_worker, _), (long_server, long_worker, _) = rows
    print(f"difference: server {long_server - short_server:+.1f} MB, worker {long_worker - short_worker:+.1f} MB")


if __name__ == "__main__":
    main()
