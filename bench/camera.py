"""Accuracy on camera work and edits, compared with a classical estimate and with `always static`.

python -m bench.camera clips --data FOLDER [--model camera] [--model camera-one-frame]
python -m bench.camera scenes --data DATA.csv --split test [--count 60] [--model camera]

clips: real clips, in FOLDER as bench/camera_labels.csv names them. scenes: generated from the videos of a split.
Needs the extra `bench` (OpenCV).
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.media.decode import read_media
from app.media.request import FrameChunk, FrameSpec, MediaLimits, MediaRequest
from app.models.manifest import ClassifyOutput
from app.models.store import list_versions, load_version
from app.pipelines.overlapping import OverlappingSegmenter
from app.pipelines.segments import AS_THEY_ARE
from bench.camera_classical import classical_answers
from bench.camera_truth import read_labels, truth
from bench.videos import add_options, chosen
from trainer.camera_scores import Answers, count_edits, count_events, count_seconds, f1_by_label, share
from trainer.data.scene_labels import EDITS, LABELS, MOTIONS, STATIC
from trainer.data.scenes import SceneStyle, draw_scene
from trainer.data.shots import Still
from trainer.data.stills import without_bars
from trainer.tables import percent, table

RATE = 12.0
STILLS_PER_VIDEO = 2
SEED = 2_000_003
NUM_WORST = 8


@dataclass(frozen=True, slots=True)
class Method:
    """One way to answer."""

    size: tuple[int, int]
    """Width and height of the frames it asks for, pixels."""
    answer: Callable[[NDArray[np.uint8]], NDArray[np.bool_]]
    """Frames (T, H, W, 3) at RATE -> (T, K): the labels said at each step."""


def read_frames(path: Path, spec: FrameSpec) -> NDArray[np.uint8]:
    """(T, H, W, 3)"""
    with path.open("rb") as file:
        events = read_media(file, MediaRequest(frames=(spec,)), MediaLimits())
        return np.concatenate([event.frames for event in events if isinstance(event, FrameChunk)])


def always_static(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
    said = np.zeros((len(frames), len(LABELS)), bool)
    said[:, STATIC] = True
    return said


def by_model(store: Path, name: str) -> Method:
    """Answers of the newest version of a model."""
    model = load_version(store / name / list_versions(store, name)[-1])
    wanted, output = model.manifest.input, model.manifest.output
    if wanted.rate != RATE or not isinstance(output, ClassifyOutput) or output.labels != LABELS:
        raise SystemExit(f"{name} is no model of camera work at {RATE:g} steps a second")
    delay_steps = output.delay_steps

    def answer(frames: NDArray[np.uint8]) -> NDArray[np.bool_]:
        # The last moments are answered after the end, so the last frame is repeated.
        given = torch.from_numpy(np.concatenate((frames, np.repeat(frames[-1:], delay_steps, axis=0))))[None]
        with torch.inference_mode():
            state = model.module.initial_state(1, *frames.shape[1:3])
            (now, _), _ = model.module.step(given, torch.tensor([given.shape[1]]), state)
        return _as_told(now[0, delay_steps:].sigmoid().numpy(), output)

    assert isinstance(wanted.width, int)
    assert isinstance(wanted.height, int)
    return Method((wanted.width, wanted.height), answer)


def _as_told(scores: NDArray[np.float32], output: ClassifyOutput) -> NDArray[np.bool_]:
    """scores (T, K) -> (T, K): what the timeline shows, without the smoothing of motion from the settings."""
    segmenter = OverlappingSegmenter(output.labels, RATE, AS_THEY_ARE, output.shortest_seconds)
    segments = [segment for step, row in enumerate(scores) for segment in segmenter.push(step / RATE, row)]
    said = np.zeros(scores.shape, bool)
    for segment in (*segments, *segmenter.finish(len(scores) / RATE)):
        first, last = round(segment.start_seconds * RATE), round(segment.end_seconds * RATE)
        said[first:last, output.labels.index(segment.label)] = True
    return said


def by_thresholds() -> Method:
    """The classical estimate."""
    return Method((320, 240), lambda frames: classical_answers(frames, RATE))


def judge_clips(folder: Path, method: Method) -> list[Answers]:
    """The answers about the labelled clips."""
    answers = []
    for clip, rows in read_labels().items():
        said = method.answer(read_frames(folder / clip, FrameSpec(*method.size, "stretch", rate=RATE)))
        holds, scored = truth(rows, len(said), RATE)
        answers.append(Answers(clip, RATE, said, holds, scored))
    return answers


def judge_scenes(stills: list[Still], count: int, method: Method) -> list[Answers]:
    """The answers about generated scenes: the same scenes for all methods, at the scenes' own size."""
    answers = []
    for index in range(count):
        scene = draw_scene(stills, 48, SceneStyle(rate=RATE), np.random.default_rng((SEED, index)))
        answers.append(Answers(str(index), RATE, method.answer(scene.frames), scene.holds, scene.scored))
    return answers


def summary(found: dict[str, list[Answers]]) -> str:
    """All figures, a column for each method."""
    rows = [["", *found]]
    motions = {name: f1_by_label(answers, MOTIONS) for name, answers in found.items()}
    rows.append(["motion macro-F1", *(f"{np.mean(list(by_label.values())):.3f}" for by_label in motions.values())])
    rows += [
        [f"F1 {label}", *(f"{by_label[label]:.2f}" for by_label in motions.values())]
        for label in next(iter(motions.values()))
    ]
    seconds = {name: count_seconds(answers) for name, answers in found.items()}
    for title, part, whole in (
        ("seconds right", "right", "judged"),
        ("moving seconds found", "moving_found", "moving"),
        ("false motion", "false_motion", "static"),
    ):
        pairs = [(getattr(one, part), getattr(one, whole)) for one in seconds.values()]
        rows.append([title, *(f"{done:.1f} of {of:.1f} ({percent(share(done, of))})" for done, of in pairs)])
    for label in (*EDITS, "all edits"):
        counts = [
            count_edits(answers) if label == "all edits" else count_events(answers, label) for answers in found.values()
        ]
        cells = [f"{c.num_found} of {c.num_true} found, {c.num_said - c.num_right} false" for c in counts]
        rows.append([label, *cells])
    return table(rows)


def worst(answers: list[Answers]) -> str:
    """The clips with the most seconds wrong."""
    wrong = {one.name: (count_seconds([one]), count_edits([one])) for one in answers}
    by_seconds = sorted(wrong, key=lambda name: wrong[name][0].right - wrong[name][0].judged)
    rows = [["clip", "seconds wrong", "edits missed", "edits false"]]
    for name in by_seconds[:NUM_WORST]:
        seconds, edits = wrong[name]
        missed, false = edits.num_true - edits.num_found, edits.num_said - edits.num_right
        rows.append([name, f"{seconds.judged - seconds.right:.1f} of {seconds.judged:.1f}", str(missed), str(false)])
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    clips = commands.add_parser("clips")
    clips.add_argument("--data", type=Path, required=True, help="folder that the clips' names are relative to")
    scenes = commands.add_parser("scenes")
    add_options(scenes)
    scenes.add_argument("--count", type=int, default=60, help="scenes of 4 seconds")
    for command in (clips, scenes):
        command.add_argument("--model", action="append", default=[], help="repeatable: a model of camera work")
        command.add_argument("--model-store", type=Path, default=Path("model_store"))
    options = parser.parse_args()
    methods = {"always static": Method((32, 24), always_static), "LK + RANSAC": by_thresholds()}
    methods |= {name: by_model(options.model_store, name) for name in options.model}
    if options.command == "clips":
        found = {name: judge_clips(options.data, method) for name, method in methods.items()}
    else:
        spec = FrameSpec(192, 144, "crop", clip_length=STILLS_PER_VIDEO)
        stills = [still for video in chosen(options) for still in without_bars(read_frames(video.path, spec))]
        found = {name: judge_scenes(stills, options.count, method) for name, method in methods.items()}
    last, answers = list(found.items())[-1]
    print(f"{len(answers)} {options.command}\n\n{summary(found)}\n\nMost seconds wrong, {last}:\n\n{worst(answers)}")


if __name__ == "__main__":
    main()
