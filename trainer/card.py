"""`card.md`: what a model is, what it was made of, how good it is and where it is not."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml

from app.models.manifest import ClassifyOutput, Input
from trainer.recipe.reading import RecipeError
from trainer.run import Epoch, Run, validated
from trainer.tables import table

CURVE_ROWS = 12
ABOUT_COMPARISON = "Means over seeds ± standard deviation."


def model_card(
    run: Run, recipe: str, version: str, num_bytes: int, compared: Sequence[Run] = (), pictures: Sequence[str] = ()
) -> str:
    """The card of a run that is published as `version`.

    `recipe` is YAML, `compared` are runs to set beside it, `pictures` are files beside the card.
    """
    sections = [
        f"# {run.name} {version}\n\n{run.summary}",
        _facts(run, recipe, num_bytes),
        f"## Results\n\n{run.report}",
        *(f"![{Path(picture).stem.replace('_', ' ')}]({picture})" for picture in pictures),
        f"## Comparison\n\n{comparison(compared)}\n\n{ABOUT_COMPARISON}" if compared else "",
        f"## Learning curve\n\n{_curve(run.epochs)}",
        f"## Limits\n\n{_limits(run)}",
        f"## Recipe\n\n```yaml\n{recipe.strip()}\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def comparison(runs: Sequence[Run]) -> str:
    """A table of variants, each the mean over its seeds ± the standard deviation, in the order given.

    Raises RecipeError for runs on other data, and for two of one variant and seed: their mean would be of nothing.
    """
    by_variant: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if (run.training_data, _labels(run)) != (runs[0].training_data, _labels(runs[0])):
            raise RecipeError(f"{run.command}\nlearnt from other data or other labels than\n{runs[0].command}")
        if any(run.seed == other.seed for other in by_variant[run.variant]):
            raise RecipeError(f"two runs of {run.variant} have seed {run.seed}: nothing says how they differ")
        by_variant[run.variant].append(run)
    headline = runs[0].headline
    sets = list(dict.fromkeys(name for run in runs for name in run.metrics if headline in run.metrics[name]))
    rows = [
        [
            variant,
            ", ".join(str(run.seed) for run in sorted(group, key=lambda run: run.seed)),
            *(_over_seeds([run.metrics[name][headline] for run in group if name in run.metrics]) for name in sets),
            f"{group[0].num_parameters:,}",
            f"{statistics.mean(run.minutes for run in group):.1f}",
        ]
        for variant, group in by_variant.items()
    ]
    shown = headline.replace("_", " ")
    return table([["variant", "seeds", *(f"{shown}, {name}" for name in sets), "parameters", "minutes"], *rows])


def _facts(run: Run, recipe: str, num_bytes: int) -> str:
    data = "; ".join(f"{data.name} ({data.source})" for data in run.training_data)
    license_ = "; ".join(dict.fromkeys(data.license for data in run.training_data))
    examples = ", ".join(f"{count:,} {split}" for split, count in run.num_examples.items())
    labels = [["labels", ", ".join(_labels(run))]] if _labels(run) else []
    epochs = run.epochs[-1].epoch if run.epochs else 0
    kept = f" (the weights are of epoch {run.kept_epoch}, the best)" if run.kept_epoch not in (None, epochs) else ""
    processes = f" in each of {run.num_processes} processes" if run.num_processes > 1 else ""
    return table(
        [
            ["fact", "value"],
            *labels,
            ["data", data],
            ["licence of the data", license_],
            ["examples", f"{examples}; no {run.kept_apart} is in two of them" if run.kept_apart else examples],
            ["input", _input(run.input)],
            ["network", f"{_recurrence(run, recipe)}, {run.num_parameters:,} parameters, {num_bytes / 1e6:.1f} MB"],
            ["training", f"{run.minutes:.1f} minutes, {epochs} epochs{kept}, "
             f"torch threads: {run.num_threads}{processes}, {run.precision}, seed {run.seed}, {run.date}"],
            ["command", f"`{run.command}`"],
        ]
    )  # fmt: skip


def _recurrence(run: Run, recipe: str) -> str:
    network = (yaml.safe_load(recipe) or {}).get("network", {})
    return "no recurrence, a mean over time" if network.get("recurrence") == "none" else run.cell.upper()


def _labels(run: Run) -> tuple[str, ...]:
    return run.output.labels if isinstance(run.output, ClassifyOutput) else ()


def _input(wanted: Input) -> str:
    if wanted.media == "audio":
        return f"mono sound at {wanted.sample_rate:,} Hz"
    size = f"{wanted.width}x{wanted.height}"
    if wanted.width == "any":
        size = f"any size, at most {wanted.longest_side} pixels a side"
    if wanted.sampling == "uniform":
        spread = f"{wanted.clip_length} frames of {size} spread over the video"
        return f"{spread}; timelines at {wanted.rate:g} frames per second"
    observed = f", {wanted.clip_length} of them observed" if wanted.clip_length else ""
    return f"{wanted.rate:g} frames per second of {size}{observed}"


def _curve(epochs: Sequence[Epoch]) -> str:
    if not epochs:
        return "none"
    step = max(1, -(-len(epochs) // CURVE_ROWS))
    shown = [*epochs[:-1:step], epochs[-1]]
    names = validated(epochs)
    rows = [
        [
            str(row.epoch),
            f"{row.train_loss:.4g}",
            *(f"{row.validation[name]:.4g}" if name in row.validation else "" for name in names),
        ]
        for row in shown
    ]
    titles = [name.removeprefix("val_").replace("_", " ") + ", validation" for name in names]
    return table([["epoch", "training loss", *titles], *rows])


def _limits(run: Run) -> str:
    sentences = [
        *run.limits,
        "It was trained and tested on the data named above and nothing else: test it on your own files first.",
        "The terms of the data apply to what is made of it.",
    ]
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _over_seeds(found: Sequence[float]) -> str:
    if not found:
        return "–"
    deviation = f" ± {statistics.stdev(found):.2g}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.4g}{deviation}"
