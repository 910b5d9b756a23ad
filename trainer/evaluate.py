"""`evaluate`: a published model on labelled videos or sounds, loaded as the service loads it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from app.errors import ModelRejected
from app.models.manifest import ClassifyOutput, Input
from app.models.store import list_versions, load_version
from trainer.data.cache import open_video
from trainer.data.decode import CacheSpec, stream_spec
from trainer.data.filling import find_copies, tell
from trainer.data.listing import Split, Video, labels_of
from trainer.data.prepare import DataOptions, decode_data, list_videos
from trainer.data.rows import InvalidListing
from trainer.data.sounds import CachedSound, decode_sounds, open_sound
from trainer.data.splits import split_by_group, with_their_groups
from trainer.metrics import Example, results, write_predictions
from trainer.sound_metrics import ABOUT_SOUNDS, measure_sounds
from trainer.video_metrics import ABOUT_VIDEOS, measure_streams, measure_videos


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
    output_kind = model.manifest.output
    if not isinstance(output_kind, ClassifyOutput):
        raise ModelRejected(f"{name} is for {model.manifest.task}: a program in bench/ measures such models")
    if output_kind.scores != "softmax":
        raise ModelRejected(f"{name} judges moments, not whole files: a program in bench/ measures such models")
    labels = output_kind.labels

    videos = _chosen(list_videos(options), options, split)
    if not videos:
        raise InvalidListing(f"{options.data} has no videos of the split {split}")
    if unknown := set(labels_of(videos)) - set(labels):
        raise InvalidListing(f"{options.data} has labels that {name} does not know: {', '.join(sorted(unknown))}")
    if model.manifest.input.media == "audio":
        sounds = _open_sounds(videos, labels, model.manifest.input, options)
        examples: Sequence[Example] = sounds
        evaluation, scores = measure_sounds(model.module, sounds, _max_samples(model.manifest.input))
        about = ABOUT_SOUNDS
    else:
        data = decode_data(videos, _cache_spec(model.manifest.input), options)
        clips = [open_video(item, labels) for item in data.decoded]
        examples, about = clips, ABOUT_VIDEOS
        measure = measure_streams if model.manifest.input.sampling == "rate" else measure_videos
        evaluation, scores = measure(model.module, clips)
    tables = results({split or "all": evaluation}, labels, about)
    told = f"{name} {model.manifest.version}\n\n{tables}"
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "evaluation.json").write_text(evaluation.model_dump_json(indent=2) + "\n", encoding="utf-8")
        write_predictions(output / "predictions.csv", examples, scores, labels)
        told += f"\n\n{output}"
    return told


def _chosen(videos: Sequence[Video], options: DataOptions, split: Split | None) -> list[Video]:
    """The videos of a split as `train` makes it with these options; without one all of them, and they have none.

    What `train` leaves out of the split for a copy in another is named on standard error.
    """
    if split is None:
        return [replace(video, split=None) for video in videos]
    videos = with_their_groups(videos)
    if split == "train" or all(video.split != split for video in videos) or (split == "val" and options.test_fraction):
        videos = split_by_group(videos, options.val_fraction, options.test_fraction)
    splits = get_args(Split)
    later = splits[splits.index(split) :]  # a split loses nothing to those before it: their files need not be read
    copies = find_copies([video for video in videos if video.split in later])
    chosen = [video for video in videos if video.split == split]
    tell(copies[video] for video in chosen if video in copies)
    return [video for video in chosen if video not in copies]


def _open_sounds(
    videos: Sequence[Video], labels: Sequence[str], model_input: Input, options: DataOptions
) -> list[CachedSound]:
    assert model_input.sample_rate is not None
    data = decode_sounds(videos, model_input.sample_rate, options.cache, options.num_processes)
    data.tell_broken()
    if not data.decoded:
        raise InvalidListing(f"none of the {len(videos)} files has sound")
    return [open_sound(item, labels) for item in data.decoded]


def _max_samples(model_input: Input) -> int:
    if model_input.max_samples is None:
        raise ModelRejected("of classifiers of sound, only those that hear a whole sound at once can be evaluated")
    return model_input.max_samples


def _cache_spec(model_input: Input) -> CacheSpec:
    """The clip that the service samples, or all frames that it steps through."""
    width, height = model_input.width, model_input.height
    if not isinstance(width, int) or not isinstance(height, int):
        raise ModelRejected("only models with a fixed picture size can be evaluated")
    assert model_input.fit is not None
    if model_input.sampling == "uniform":
        assert model_input.clip_length is not None
        return CacheSpec(width, height, model_input.fit, model_input.clip_length, 0, 0, 0.0)
    assert model_input.rate is not None
    return stream_spec(width, height, model_input.fit, model_input.rate)
