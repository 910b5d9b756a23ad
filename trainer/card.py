"""`card.md`: what a model is, what it was made of, how good it is and where it is not."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from trainer.metrics import Evaluation
from trainer.run import Epoch, Run

CURVE_ROWS = 12
ABOUT_RESULTS = (
    "Measured on the published file. The checkpoint was chosen on `val`: only `test` is unbiased. "
    "One frame: the middle frame in the place of all others. Shuffled: the frames in a random order."
)

ABOUT_COMPARISON = (
    "Means over seeds ± standard deviation. Every run reads `test` once, at its end; "
    "which of them is published was chosen on `val`."
)


def model_card(run: Run, recipe: str, version: str, num_bytes: int, compared: Sequence[Run] = ()) -> str:
    """The card of a run that is published as `version`. `recipe` is YAML, `compared` are runs to set beside it."""
    sections = [
        f"# {run.name} {version}\n\n{run.summary}",
        _facts(run, num_bytes),
        f"## Results\n\n{results(run.evaluations, run.labels)}\n\n{ABOUT_RESULTS}",
        f"## Comparison\n\n{comparison(compared)}\n\n{ABOUT_COMPARISON}" if compared else "",
        f"## Learning curve\n\n{_curve(run.epochs)}",
        f"## Limits\n\n{_limits(run)}",
        f"## Recipe\n\n```yaml\n{recipe.strip()}\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def comparison(runs: Sequence[Run]) -> str:
    """A table of variants, each the mean over its seeds ± the standard deviation; best on validation first."""
    by_variant: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_variant[run.variant].append(run)
    splits = [split for split in ("val", "test") if any(split in run.evaluations for run in runs)]
    ordered = sorted(by_variant.items(), key=lambda item: -_mean(item[1], "val"))
    rows = [
        [
            variant,
            ", ".join(str(run.seed) for run in sorted(group, key=lambda run: run.seed)),
            *(_over_seeds(group, split) for split in splits),
            f"{group[0].num_parameters:,}",
            f"{statistics.mean(run.minutes for run in group):.1f}",
        ]
        for variant, group in ordered
    ]
    return table([["variant", "seeds", *(f"accuracy, {split}" for split in splits), "parameters", "minutes"], *rows])


def results(evaluations: Mapping[str, Evaluation], labels: Sequence[str]) -> str:
    """Tables of evaluations by the name of their set: figures, then confusions."""
    rows = [
        [
            name,
            str(evaluation.num_videos),
            _percent(evaluation.accuracy),
            _percent(evaluation.macro_recall),
            f"{evaluation.calibration_error:.3f}",
            _percent(evaluation.majority_share),
            _percent(evaluation.accuracy_one_frame),
            _percent(evaluation.accuracy_shuffled),
        ]
        for name, evaluation in evaluations.items()
    ]
    heading = ["set", "videos", "accuracy", "macro recall", "calibration error", "most frequent class"]
    figures = table([[*heading, "control: one frame", "control: shuffled"], *rows])
    return "\n\n".join([figures, *(_confusion(name, found, labels) for name, found in evaluations.items())])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the heading."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _facts(run: Run, num_bytes: int) -> str:
    data = "; ".join(f"{data.name} ({data.source})" for data in run.training_data)
    license_ = "; ".join(dict.fromkeys(data.license for data in run.training_data))
    splits = ", ".join(f"{count} {split}" for split, count in run.num_videos.items())
    return table(
        [
            ["fact", "value"],
            ["labels", ", ".join(run.labels)],
            ["data", data],
            ["licence of the data", license_],
            ["videos", f"{splits}; no source video (group) is in two of them"],
            ["input", f"{run.input.clip_length} frames of {run.input.width}x{run.input.height} spread over the video; "
             f"timelines at {run.input.rate:g} frames per second"],
            ["network", f"{run.cell.upper()} encoder and decoder, {run.num_parameters:,} parameters, "
             f"{num_bytes / 1e6:.1f} MB"],
            ["training", f"{run.minutes:.1f} minutes, {run.epochs[-1].epoch} epochs, torch threads: {run.num_threads}, "
             f"{run.precision}, seed {run.seed}, {run.date}"],
            ["command", f"`{run.command}`"],
        ]
    )  # fmt: skip


def _confusion(name: str, evaluation: Evaluation, labels: Sequence[str]) -> str:
    rows = [[label, *map(str, row)] for label, row in zip(labels, evaluation.confusion, strict=True)]
    return table([[f"{name}: truth \\ answer", *labels], *rows])


def _curve(epochs: Sequence[Epoch]) -> str:
    step = max(1, -(-len(epochs) // CURVE_ROWS))
    shown = [*epochs[:-1:step], epochs[-1]]
    rows = [
        [str(row.epoch), f"{row.train_loss:.3f}", f"{row.val_loss:.3f}", _percent(row.val_accuracy)] for row in shown
    ]
    return table([["epoch", "training loss", "validation loss", "validation accuracy"], *rows])


def _limits(run: Run) -> str:
    test = run.evaluations.get("test", run.evaluations["val"])
    return "\n".join(
        [
            f"- It answers with one of its {len(run.labels)} labels whatever a video shows, never with none of them.",
            f"- Its scores are off by {test.calibration_error:.3f} on average on videos like its own, "
            "and mean less on others.",
            "- It was trained and tested on the data named above and nothing else: test it on your own videos first "
            "(`python -m trainer evaluate`).",
            "- The terms of the data apply to what is made of it.",
        ]
    )


def _mean(runs: Sequence[Run], split: str) -> float:
    return statistics.mean(run.evaluations[split].accuracy for run in runs)


def _over_seeds(runs: Sequence[Run], split: str) -> str:
    found = [run.evaluations[split].accuracy for run in runs if split in run.evaluations]
    if not found:
        return "–"
    deviation = f" ± {100 * statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{_percent(statistics.mean(found))}{deviation}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
