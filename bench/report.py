"""`bench/results.md` and its plot, from the measurements of one run."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
import torch

from app.models.precision import Precision
from bench.clips import CLIPS, SECONDS
from bench.load import Measurement, median

mpl.use("agg")
from matplotlib import pyplot as plt

RIGHT = 0.001
"""A float32 score within this equals the reference's: the service rounds to 0.001 and less."""


@dataclass(frozen=True)
class Report:
    """What one run found."""

    model: str
    """The name of the model that was measured."""
    num_rounds: int
    measurements: list[Measurement]
    sizes: dict[str, int]
    """Bytes of each clip."""
    starts: tuple[float, float]
    """Seconds to the first right answer, and of importing torch and fastapi."""
    peak_mb: float
    """Proportional set size of the service at `most_at_once` requests."""
    parts: dict[str, float]
    """Milliseconds of the model."""
    busy_elsewhere: float
    """Share of the cores that other processes used before the run."""
    precision: Precision
    """Precision in which the service runs the model."""
    tolerance: float
    """How far off a score of the service may be in that precision."""

    @property
    def most_at_once(self) -> int:
        """Requests."""
        return max(found.concurrency for found in self.measurements)

    def ratios(self, name: str, clip: str, concurrency: int) -> tuple[float, float, float]:
        """(CPU, rate, median latency) of a contender over the limit's: medians of the rounds' ratios."""
        pairs = list(zip(self.of(name, clip, concurrency), self.of("limit", clip, concurrency), strict=True))
        return (
            median([one.cpu_seconds / other.cpu_seconds for one, other in pairs]),
            median([one.rate / other.rate for one, other in pairs]),
            median([median(one.latencies) / median(other.latencies) for one, other in pairs]),
        )

    def of(self, name: str, clip: str, concurrency: int) -> list[Measurement]:
        """What was measured of one contender, by round."""
        wanted = (name, clip, concurrency)
        return [found for found in self.measurements if (found.contender, found.clip, found.concurrency) == wanted]


def write(report: Report, path: Path) -> None:
    """The table in Markdown, and beside it the plot of the same name."""
    lines = [
        "# The service beside the limit",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine(report.busy_elsewhere)}, Python {platform.python_version()}, torch"
        f" {torch.__version__}; `make bench`.",
        "",
        "The limit is one bare process per core, without HTTP, that decodes only what it must, is told beforehand which"
        " packets those are, and runs the frozen fp32 model; who waits for it is served in turn. Medians over"
        f" {report.num_rounds} rounds of ratios to the limit, measured one after the other. The service runs the model"
        f" in {report.precision}; answers are right where every score is within {report.tolerance:g} of the"
        f" reference's, those of the naive service within {RIGHT:g}.",
        "",
        *_table(report),
        "",
        *_others(report),
        "",
        f"Memory of the service (PSS of all its processes) with {report.most_at_once} at once:"
        f" {report.peak_mb:.0f} MB at most. From nothing to the first right answer: {report.starts[0]:.2f} s,"
        f" {report.starts[0] / report.starts[1]:.2f} times `python -c 'import torch, fastapi'`. {alone(report.model)}",
        "",
        "The model, one thread, 16 frames:",
        "",
        "| part | ms |",
        "|---|---|",
        *(f"| {name} | {milliseconds:.1f} |" for name, milliseconds in report.parts.items()),
        "",
        f"![CPU by request, rate by requests at once, latency]({path.stem}.png)",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _plot(report, path.with_suffix(".png"))


def machine(busy_elsewhere: float) -> str:
    """Its cores, its processor, and the share of them that others used."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), platform.machine())
    busy = 100 * max(busy_elsewhere, 0.0)  # so short a sample can miss ticks
    return f"{os.cpu_count()} cores of {model}, of which others used {busy:.0f} % before the run"


def alone(model: str) -> str:
    """What the figures of the service's memory and start do not cover."""
    return (
        f"The service has this one model loaded (`AFTERFRAME_MODELS={model}`): with all of the store it needs more"
        " memory and longer to start, so size no container by this."
    )


def _concurrencies(report: Report, clip: str) -> list[int]:
    return sorted({found.concurrency for found in report.measurements if found.clip == clip})


def _table(report: Report) -> list[str]:
    lines = [
        "| clip | at once | limit: CPU s, requests/s, ms | service: CPU, rate, latency | naive: CPU, rate, latency"
        " | answers right: service, naive |",
        "|---|---|---|---|---|---|",
    ]
    for clip in _main_clips(report):
        for concurrency in _concurrencies(report, clip):
            bare = report.of("limit", clip, concurrency)
            cells = [
                f"{median([found.cpu_seconds for found in bare]):.3f}, {median([found.rate for found in bare]):.2f},"
                f" {1000 * median([median(found.latencies) for found in bare]):.0f}"
            ]
            cells += [
                ", ".join(f"{ratio:.2f}x" for ratio in report.ratios(name, clip, concurrency))
                for name in ("service", "naive")
            ]
            cells.append(_verdicts(report, clip, concurrency))
            lines.append(f"| {clip} | {concurrency} | " + " | ".join(cells) + " |")
    return lines


def _others(report: Report) -> list[str]:
    lines = [
        "One request at a time:",
        "",
        "| clip | Mbit/s | how it is encoded | limit: CPU s | service | fast | naive | right: service, naive |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for clip in CLIPS:
        bare = report.of("limit", clip.name, 1)
        if not bare:
            continue
        options = " ".join(f"{name}={value}" for name, value in clip.options.items()) or "as it comes"
        cells = [
            clip.name,
            f"{report.sizes[clip.name] * 8 / SECONDS / 1e6:.1f}",
            f"{clip.codec}, {options}",
            f"{median([found.cpu_seconds for found in bare]):.3f}",
            *(f"{report.ratios(name, clip.name, 1)[0]:.2f}x" for name in ("service", "service, fast", "naive")),
            _verdicts(report, clip.name, 1),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _verdicts(report: Report, clip: str, concurrency: int) -> str:
    """Of the service and of the naive one."""
    tolerances = {"service": report.tolerance, "naive": RIGHT}
    return ", ".join(_verdict(report.of(name, clip, concurrency), wrong) for name, wrong in tolerances.items())


def _verdict(found: Sequence[Measurement], tolerance: float) -> str:
    error = max(measurement.error for measurement in found)
    if error <= tolerance:
        return "yes"
    return f"off by {error:.3f}" + ("" if all(measurement.is_right for measurement in found) else ", another label")


def _main_clips(report: Report) -> list[str]:
    found = {measurement.clip for measurement in report.measurements if measurement.concurrency == report.most_at_once}
    return [clip.name for clip in CLIPS if clip.name in found]


def _plot(report: Report, path: Path) -> None:
    names, clips = ("limit", "service", "naive"), _main_clips(report)
    figure, (bars, rates, times) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for number, name in enumerate(names):
        cpu = [median([found.cpu_seconds for found in report.of(name, clip, 1)]) for clip in clips]
        bars.bar([place + 0.27 * (number - 1) for place in range(len(clips))], cpu, 0.25, label=name)
    bars.set_xticks(range(len(clips)), clips)
    bars.set_title("CPU seconds a request")
    bars.legend()
    for clip, style in zip(clips, ("-", "--", ":"), strict=False):
        at_once = _concurrencies(report, clip)
        for number, name in enumerate(names):
            rate = [median([found.rate for found in report.of(name, clip, count)]) for count in at_once]
            rates.plot(at_once, rate, style, color=f"C{number}", label=f"{name}, {clip}", marker=".")
    rates.set_xscale("log", base=2)
    rates.set_xticks(at_once, [str(count) for count in at_once])
    rates.set_yscale("log")
    rates.set_title("requests a second by requests at once")
    rates.legend(fontsize=7, ncols=len(clips), loc="upper center", bbox_to_anchor=(0.5, -0.08))  # below the curves
    clip = clips[0]
    for number, name in enumerate(names):
        latencies = [
            1000 * latency for found in report.of(name, clip, report.most_at_once) for latency in found.latencies
        ]
        times.hist(latencies, bins=30, histtype="step", color=f"C{number}", label=name)
    times.set_title(f"latency in ms, {clip}, {report.most_at_once} at once")
    times.legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)
