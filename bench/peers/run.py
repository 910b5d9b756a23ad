"""LitServe, mosec and BentoML beside the service and the limit, in one interleaved run, as `bench.performance`.

python -m bench.peers.run [--rounds 2] [--only 240p 720p 1080p] [--output bench/peers.md]

The others are run by the Python of build/peers-venv, which `make bench-peers` makes.
"""

import argparse
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.models.store import list_versions
from bench.clips import make_clips
from bench.contenders import Contender, Limit, OverHttp
from bench.load import Measurement, busy_elsewhere, measure, median
from bench.performance import MAIN_CLIPS, STORE, compare, our_service
from bench.processes import MemoryWatch
from bench.report import RIGHT, alone, machine
from bench.service import ROOT, started

PYTHON = ROOT / "build/peers-venv/bin/python"
PACKAGES = ("litserve", "mosec", "bentoml", "torch")
_BODY_BYTES = 64 << 20


@contextmanager
def peers(model: Path) -> Iterator[list[Contender]]:
    """The other servers."""
    settings = {"MODEL_FOLDER": str(model), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    mosec = ["--address", "127.0.0.1", "--port", "8152", "--timeout", "600000", "--log-level", "warning"]
    mosec += ["--max-request-size", str(_BODY_BYTES)]
    bentoml = ["bench.peers.on_bentoml:Classify", "--quiet", "--port", "8153", "--host", "127.0.0.1"]
    with ExitStack() as running:

        def start(command: list[str], port: int, path: str) -> int:
            return running.enter_context(started(command, port, path, str(PYTHON), **settings))

        yield [
            OverHttp(
                "LitServe", 8151, start(["bench.peers.on_litserve", "8151"], 8151, "/health"), "/classify", is_form=True
            ),
            OverHttp("mosec", 8152, start(["bench.peers.on_mosec", *mosec], 8152, "/"), "/inference"),
            OverHttp(
                "BentoML", 8153, start(["bentoml", "serve", *bentoml], 8153, "/readyz"), "/classify", is_form=True
            ),
        ]


def peak_mb(contender: Contender, clip: Path, at_once: int) -> float:
    """The largest memory of the contender's processes with so many requests at once."""
    scores = contender.ask(clip)
    with MemoryWatch(contender.pids[0]) as watch:
        measure(contender, clip, scores, at_once, 2 * at_once)
    return watch.peak_mb


def versions() -> str:
    """Of what is compared."""
    text = subprocess.run([PYTHON, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"^(\S+)\s+(\S+)$", text, re.MULTILINE))
    return ", ".join(f"{name} {found[name]}" for name in PACKAGES)


def table(measurements: list[Measurement], memory: dict[str, float]) -> list[str]:
    """By clip and requests at once: CPU by request, rate and latency of each, over the limit's."""
    names = list(dict.fromkeys(found.contender for found in measurements))
    lines = [
        "| clip | at once | " + " | ".join(f"{name}: CPU, rate, ms" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for clip, at_once in dict.fromkeys((found.clip, found.concurrency) for found in measurements):
        rounds = {
            name: [one for one in measurements if (one.contender, one.clip, one.concurrency) == (name, clip, at_once)]
            for name in names
        }
        cells = []
        for name, found in rounds.items():
            milliseconds = 1000 * median([median(one.latencies) for one in found])
            if name == "limit":
                cpu, rate = median([one.cpu_seconds for one in found]), median([one.rate for one in found])
                cells.append(f"{cpu:.3f} s, {rate:.2f}/s, {milliseconds:.0f}")
                continue
            pairs = list(zip(found, rounds["limit"], strict=True))
            cpu = median([one.cpu_seconds / bare.cpu_seconds for one, bare in pairs])
            rate = median([one.rate / bare.rate for one, bare in pairs])
            wrong = max(one.error for one in found)
            note = "" if wrong <= RIGHT else f", off by {wrong:.3f}"
            cells.append(f"{cpu:.2f}x, {rate:.2f}x, {milliseconds:.0f}{note}")
        lines.append(f"| {clip} | {at_once} | " + " | ".join(cells) + " |")
    lines += ["", "Memory (PSS of all processes) at the most requests at once: "]
    lines[-1] += ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in memory.items()) + "."
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="actions", help="its newest version")
    parser.add_argument("--clips", type=Path, default=ROOT / "runs/bench", help="where they are, or are made")
    parser.add_argument("--only", nargs="*", default=list(MAIN_CLIPS), choices=list(MAIN_CLIPS))
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--output", type=Path, default=ROOT / "bench/peers.md")
    options = parser.parse_args()
    model = STORE / options.model / list_versions(STORE, options.model)[-1]
    clips = make_clips(options.clips, options.only)
    busy = busy_elsewhere()
    with our_service(model) as services, peers(model) as others:
        bare = Limit(model)
        contenders: list[Contender] = [bare, services[0], *others]
        measurements = list(compare(contenders, clips, model, options.rounds, options.at_once))
        bare.stop()
        memory = {one.name: peak_mb(one, next(iter(clips.values())), max(options.at_once)) for one in contenders[1:]}
    lines = [
        "# The service beside other servers of models",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine(busy)}; {versions()}; `make bench-peers`.",
        "",
        "The same TorchScript model, the same clips, 16 frames spread over each; a worker per core and one thread in"
        " each of them, see `bench/peers`. CPU seconds a request and requests a second are over those of the limit,"
        " which is told in full, and whose clients are served in turn; latencies are medians. All figures are medians"
        f" over {options.rounds} rounds.",
        "",
        *table(measurements, memory),
        "",
        alone(model.parent.name),
    ]
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
