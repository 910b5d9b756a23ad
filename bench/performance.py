"""The service, the limit and a naive service in one interleaved run: CPU, rate, latency, memory, start.

python -m bench.performance [--rounds 3] [--output bench/results.md] [--clips runs/bench]

All run the same TorchScript model on the same clips, 16 frames spread over each. Every answer is compared with the one
from decoding everything. The machine need not be idle: the figures are medians of ratios of neighbours in time.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import av
import numpy as np
import torch

from app.media.scaling import FrameScaler
from app.models.manifest import read_manifest
from app.models.precision import Precision
from app.models.store import list_versions
from bench import limit
from bench.clips import CLIPS, make_clips
from bench.contenders import Contender, Limit, OverHttp
from bench.load import Measurement, busy_elsewhere, measure, median
from bench.parts import time_parts
from bench.processes import MemoryWatch
from bench.report import RIGHT, Report, write
from bench.service import ROOT, started

STORE = ROOT / "model_store"

MAIN_CLIPS = {"240p": 16, "720p": 8, "1080p": 8}
"""Clips that are asked at every concurrency, and how many requests one after the other are a measurement."""
_OTHER_REQUESTS = 4  # with every other clip, one after the other
_REQUESTS_A_CLIENT = 3
"""At once, at least: with one each, much of a measurement is its end, where cores stand idle by chance."""
_STARTS = 7


@torch.inference_mode()
def reference_scores(clip: Path, model: Path) -> list[float]:
    """The model's scores when every frame is decoded, and the right ones are picked afterwards in exact fractions."""
    module, spec = limit.load(model)
    with av.open(str(clip)) as container:
        times = [frame.pts for frame in container.decode(video=0) if frame.pts is not None]
    gaps = spec.clip_length - 1
    moments = [times[0] * gaps + (times[-1] - times[0]) * place for place in range(spec.clip_length)]
    wanted = [min(times, key=lambda time, moment=moment: (abs(time * gaps - moment), time)) for moment in moments]
    frames = np.empty((spec.clip_length, spec.height, spec.width, 3), np.uint8)
    with av.open(str(clip)) as container:
        for frame in container.decode(video=0):
            for place in [place for place, time in enumerate(wanted) if time == frame.pts]:
                FrameScaler(spec, frame, None).scale(frame, frames[place])
    scores: list[float] = (
        module(torch.from_numpy(frames).unsqueeze(0), torch.tensor([len(frames)])).softmax(1)[0].tolist()
    )
    return scores


@contextmanager
def our_service(model: Path) -> Iterator[list[OverHttp]]:
    """The service, exact and fast."""
    settings = {"AFTERFRAME_PORT": "8131", "AFTERFRAME_LOG_LEVEL": "warning", "AFTERFRAME_MODELS": model.parent.name}
    settings |= {"AFTERFRAME_DEADLINE_SECONDS": "600", "AFTERFRAME_MAX_WAIT_SECONDS": "600"}  # all are to be answered
    with started(["app"], 8131, "/health/ready", **settings) as pid:
        labels = list(read_manifest(model / "manifest.json").output.labels)
        path = f"/classify?model={model.parent.name}&top_k={len(labels)}"
        exact = OverHttp("service", 8131, pid, path, labels=labels)
        yield [exact, OverHttp("service, fast", 8131, pid, f"{path}&sampling=fast", labels=labels)]


def precision_of(model: Path, port: int = 8131) -> tuple[Precision, float]:
    """The precision in which our running service computes the model, and how far off a score may then be."""
    with urlopen(f"http://127.0.0.1:{port}/models/{model.parent.name}") as response:
        precision: Precision = json.load(response)["versions"][-1]["precision"]
    bfloat16 = read_manifest(model / "manifest.json").golden_tolerance.bfloat16
    return precision, bfloat16 if precision == "bfloat16" else RIGHT


def seconds_to_start(model: Path, clip: Path, reference: list[float]) -> tuple[float, float]:
    """(seconds from nothing to the first right answer, seconds of `import torch, fastapi`), medians, in turns."""
    ours, bare = [], []
    for _ in range(_STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch, fastapi"], check=True)
        bare.append(time.perf_counter() - began)
        began = time.perf_counter()
        with our_service(model) as services:
            scores = services[0].ask(clip)
            ours.append(time.perf_counter() - began)
            _, tolerance = precision_of(model)
        assert max(abs(got - wanted) for got, wanted in zip(scores, reference, strict=True)) < tolerance
    return median(ours), median(bare)


def num_requests(clip: str, concurrency: int) -> int:
    """How many requests with the clip are one measurement."""
    alone = MAIN_CLIPS.get(clip, _OTHER_REQUESTS)
    return alone if concurrency == 1 else max(2 * alone, _REQUESTS_A_CLIENT * concurrency)


def compare(
    contenders: list[Contender], clips: dict[str, Path], model: Path, rounds: int, at_once: list[int]
) -> Iterator[Measurement]:
    """Measures everything `rounds` times; what is compared is measured one right after the other."""
    references = {name: reference_scores(path, model) for name, path in clips.items()}
    for contender in contenders:
        contender.ask(next(iter(clips.values())))  # the first one is slower everywhere
    for number in range(rounds):
        for name, path in clips.items():
            for concurrency in at_once if name in MAIN_CLIPS else [1]:
                for contender in contenders:
                    if contender.name == "service, fast" and concurrency > 1:
                        continue
                    found = measure(contender, path, references[name], concurrency, num_requests(name, concurrency))
                    print(
                        f"round {number + 1}, {name}, {concurrency} at once, {contender.name}:"
                        f" {found.cpu_seconds:.3f} s CPU, {found.rate:.2f}/s, off by {found.error:.1g}",
                        flush=True,
                    )
                    yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="actions", help="its newest version")
    parser.add_argument("--clips", type=Path, default=ROOT / "runs/bench", help="where they are, or are made")
    parser.add_argument("--only", nargs="*", default=[clip.name for clip in CLIPS], help="names of clips")
    parser.add_argument(
        "--at-once", type=int, nargs="*", default=[1, 4, 16], help="requests; 1 always, on a busy machine alone"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "bench/results.md")
    options = parser.parse_args()
    model = STORE / options.model / list_versions(STORE, options.model)[-1]
    clips, at_once = make_clips(options.clips, options.only), sorted({1, *options.at_once})
    busy = busy_elsewhere()
    first = next(iter(clips.values()))
    reference = reference_scores(first, model)
    starts = seconds_to_start(model, first, reference)
    with ExitStack() as running:
        services = running.enter_context(our_service(model))
        precision, tolerance = precision_of(model)
        naive = running.enter_context(
            started(
                ["uvicorn", "bench.naive:app", "--port", "8132", "--log-level", "warning"],
                8132,
                "/docs",
                MODEL_FOLDER=str(model),
            )
        )
        bare = Limit(model)
        running.callback(bare.stop)
        contenders: list[Contender] = [bare, *services, OverHttp("naive", 8132, naive, "/classify", is_form=True)]
        measurements = list(compare(contenders, clips, model, options.rounds, at_once))
        with MemoryWatch(services[0].pids[0]) as watch:
            for name in MAIN_CLIPS.keys() & clips.keys():
                measure(services[0], clips[name], reference, at_once[-1], 2 * at_once[-1])
    parts = time_parts(model)
    sizes = {name: path.stat().st_size for name, path in clips.items()}
    rounds, peak_mb = options.rounds, watch.peak_mb
    report = Report(model.parent.name, rounds, measurements, sizes, starts, peak_mb, parts, busy, precision, tolerance)
    write(report, options.output)


if __name__ == "__main__":
    main()
