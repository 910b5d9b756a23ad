"""`evaluate`: a published model on labelled videos, loaded as the service loads it."""

from pathlib import Path

from app.errors import ModelRejected
from app.models.manifest import Input
from app.models.store import list_versions, load_version
from trainer.card import results
from trainer.data.cache import open_video
from trainer.data.decode import CacheSpec
from trainer.data.listing import InvalidListing, Split, labels_of
from trainer.data.prepare import DataOptions, decode_data, list_videos
from trainer.metrics import measure, write_predictions


def evaluate(
    store: Path, name: str, version: str | None, options: DataOptions, split: Split | None, output: Path | None
) -> str:
    """Tables of how good a version is, by default the newest; with `output`, each answer is written there too.

    Raises InvalidListing for videos that it cannot be evaluated on, ModelRejected for a model that cannot be loaded.
    """
    versions = list_versions(store, name)
    if not versions or (version and version not in versions):
        raise ModelRejected(f"{store} has no model {name}{f' {version}' if version else ''}")
    model = load_version(store / name / (version or versions[-1]))
    labels = model.manifest.output.labels

    videos = [video for video in list_videos(options) if split in (None, video.split)]
    if not videos:
        raise InvalidListing(f"{options.data} has no videos of the split {split}")
    if unknown := set(labels_of(videos)) - set(labels):
        raise InvalidListing(f"{options.data} has labels that {name} has not: {', '.join(sorted(unknown))}")
    data = decode_data(videos, _clip_spec(model.manifest.input), options)
    opened = [open_video(item, labels) for item in data.decoded]
    evaluation, scores = measure(model.module, opened, len(labels))
    told = f"{name} {model.manifest.version}\n\n{results({split or 'all': evaluation}, labels)}"
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "evaluation.json").write_text(evaluation.model_dump_json(indent=2) + "\n", encoding="utf-8")
        write_predictions(output / "predictions.csv", opened, scores, labels)
        told += f"\n\n{output}"
    return told


def _clip_spec(model_input: Input) -> CacheSpec:
    width, height = model_input.width, model_input.height
    if model_input.sampling != "uniform" or not isinstance(width, int) or not isinstance(height, int):
        raise ModelRejected("only models of uniform clips of one size can be evaluated")
    assert model_input.fit is not None
    assert model_input.clip_length is not None
    return CacheSpec(width, height, model_input.fit, model_input.clip_length, 0, 0, 0.0)
