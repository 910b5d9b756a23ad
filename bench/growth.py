"""How a request's CPU time and memory grow with the length of its video, one request after the other.

python -m bench.growth [--seconds 10 30 90 270] [--folder runs/growth]
"""

import argparse
from pathlib import Path

from bench.clips import Clip, encode
from bench.load import median
from bench.processes import MemoryWatch, cpu_seconds
from bench.service import ROOT, Service, running_service

_REQUESTS = 4


def ask(service: Service, video: Path) -> float:
    """CPU seconds of one request."""
    before = cpu_seconds(service.pids())
    service.classify(video, model="actions")
    return cpu_seconds(service.pids()) - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="*", default=[10, 30, 90, 270])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs/growth", help="where the clips are, or are made")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    videos = {seconds: options.folder / f"{seconds}.mp4" for seconds in options.seconds}
    for seconds, path in videos.items():
        if not path.exists():
            encode(Clip(path.stem, (320, 240)), path, seconds)
    print("| seconds of video | MB | CPU s | CPU ms a second of video | memory, MB |\n|---|---|---|---|---|")
    with running_service(models="actions", deadline_seconds=600) as service:
        ask(service, videos[min(videos)])
        for seconds, path in videos.items():
            with MemoryWatch(service.pid) as watch:
                cpu = median([ask(service, path) for _ in range(_REQUESTS)])
            megabytes = path.stat().st_size / 1e6
            print(
                f"| {seconds} | {megabytes:.1f} | {cpu:.3f} | {1000 * cpu / seconds:.1f} | {watch.peak_mb:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
