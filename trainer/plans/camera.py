"""Plans the training of a classifier of camera work and edits, on videos of any kind."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.jit import ScriptModule
from torch.utils.data import DataLoader

from app.models.manifest import ClassifyOutput, Input
from trainer.camera_scores import Answers, count_edits, count_events, count_seconds, f1_by_label, share
from trainer.data.listing import Split
from trainer.data.prepare import DataSet
from trainer.data.rows import InvalidListing
from trainer.data.scene_labels import EDITS, LABELS, MOTIONS, SHORTEST_SECONDS
from trainer.data.scenes import SceneStyle, draw_scene
from trainer.data.shots import Still
from trainer.data.splits import kept_apart, split_by_group
from trainer.data.stills import still_spec, stills_of
from trainer.plan import Plan, PlanOptions, Report
from trainer.plans.examples import full_batch_size
from trainer.plans.unlabelled import decode_any, list_any
from trainer.recipe.camera import CameraRecipe
from trainer.tables import table
from trainer.tasks.camera import CameraTask
from trainer.tasks.camera_scenes import Clip, Scenes
from trainer.tasks.clips import DrawSampler

VALIDATION_SEED = 1_000_003
TEST_SEED = 2_000_003
GOLDEN_SEED = 0
GOLDEN_LENGTHS = (7, 5)
"""Valid frames of each golden clip: one is padded."""
LIMITS = (
    "It knows generated scenes: real hands, lenses and editors do what no generator does. bench/camera.py says how it "
    "does on real clips.",
    "Where sky, water or something that moves fills the picture, there is no evidence of the camera.",
    "A camera that travels is told by how the picture moves: sideways as a pan, forwards as zooming in.",
)


def plan_camera(recipe: CameraRecipe, options: PlanOptions) -> Plan:
    """The training of a CameraClassifier on scenes made of the stills of videos; their labels do not matter.

    Raises InvalidListing for data that cannot be trained on.
    """
    videos = split_by_group(list_any(options.data), options.data.val_fraction, options.data.test_fraction)
    spec = still_spec(recipe.stills.width, recipe.stills.height, recipe.stills.per_video)
    data = decode_any(videos, spec, options.data)
    stills = stills_of(data, "train")
    if not stills:  # all scenes would silently be made of textures
        raise InvalidListing("no videos to make scenes of are left in train")
    held_back = stills_of(data, "val")
    wanted, sampling = recipe.input, recipe.sampling
    style = SceneStyle(width=wanted.width, height=wanted.height, rate=wanted.rate)
    batch_size = full_batch_size(recipe.budget.batch_size, sampling.scenes_per_epoch, options)
    scenes = Scenes(stills, sampling.scenes_per_epoch, sampling.clip_length, style, options.seed)
    validation = Scenes(held_back, sampling.validation_scenes, sampling.clip_length, style, VALIDATION_SEED)
    return Plan(
        learner=CameraTask(recipe, options.cell),
        train=DataLoader[Clip](
            scenes,
            batch_size,
            sampler=DrawSampler(len(scenes), options.seed),
            drop_last=True,
            num_workers=options.num_loaders,
            persistent_workers=options.num_loaders > 0,
        ),
        val=DataLoader[Clip](validation, batch_size) if held_back else None,
        input=Input(
            media="video",
            width=wanted.width,
            height=wanted.height,
            fit="stretch",
            sampling="rate",
            rate=wanted.rate,
        ),
        output=ClassifyOutput(
            labels=LABELS,
            scores="sigmoid",
            delay_steps=wanted.delay_steps,
            shortest_seconds=SHORTEST_SECONDS,
            general=True,
        ),
        golden=(_golden_frames(style), np.array(GOLDEN_LENGTHS)),
        summary="Tells how the camera moves and where a video is cut, dissolves, freezes or goes black.",
        num_examples=data.num_videos(),
        kept_apart=kept_apart(videos),
        headline="motion_macro_f1",
        evaluate=lambda module, folder: _evaluate(module, data, recipe, style),
    )


def answer_scenes(
    module: ScriptModule, stills: Sequence[Still], count: int, recipe: CameraRecipe, style: SceneStyle
) -> list[Answers]:
    """What the compiled network says about `count` scenes, the same at every evaluation."""
    answers, delay = [], recipe.input.delay_steps
    for index in range(count):
        generator = np.random.default_rng((TEST_SEED, index))
        scene = draw_scene(stills, recipe.sampling.clip_length, style, generator)
        frames = torch.from_numpy(scene.frames)[None]
        with torch.inference_mode():
            state = module.initial_state(1, *frames.shape[2:4])
            (now, _), _ = module.step(frames, torch.tensor([frames.shape[1]]), state)
        said = (now[0, delay:] > 0).numpy()
        answers.append(Answers(str(index), style.rate, said, scene.holds[: len(said)], scene.scored[: len(said)]))
    return answers


def report(answers: dict[str, list[Answers]]) -> Report:
    """The report on answers, given by the name of their set."""
    metrics: dict[str, dict[str, float]] = {}
    rows = [["set", *LABELS]]
    events = [["set", *(f"{label}, precision / recall" for label in EDITS)]]
    for name, given in answers.items():
        by_label, edits, seconds = f1_by_label(given), count_edits(given), count_seconds(given)
        figures = {
            "motion_macro_f1": float(np.mean([by_label[label] for label in MOTIONS if label in by_label])),
            "edit_precision": edits.precision,
            "edit_recall": edits.recall,
            "seconds_right": share(seconds.right, seconds.judged),
            "moving_found": share(seconds.moving_found, seconds.moving),
            "false_motion": share(seconds.false_motion, seconds.static),
        }
        metrics[name] = {figure: value for figure, value in figures.items() if np.isfinite(value)}
        rows.append([name, *(f"{by_label[label]:.3f}" if label in by_label else "–" for label in LABELS)])
        counts = [count_events(given, label) for label in EDITS]
        events.append([name, *(f"{_shown(one.precision)} / {_shown(one.recall)}" for one in counts)])
    text = (
        "Generated scenes, of videos that are in no other set and of none (textures). F1 by step of each label:\n\n"
        f"{table(rows)}\n\nEdits, each within 0.2 s of where it is, before timelines drop those that are too short:\n\n"
        f"{table(events)}"
    )
    return Report(metrics=metrics, text=text, limits=LIMITS)


def _shown(part: float) -> str:
    return f"{part:.2f}" if np.isfinite(part) else "–"


def _evaluate(module: ScriptModule, data: DataSet, recipe: CameraRecipe, style: SceneStyle) -> Report:
    """Evaluates the compiled network on scenes made of the videos held back, and on scenes made of textures alone."""
    splits: tuple[Split, ...] = ("val", "test")
    sources: dict[str, list[Still]] = {split: stills_of(data, split) for split in splits}
    sources = {name: stills for name, stills in sources.items() if stills} | {"textures": []}
    count = recipe.sampling.validation_scenes
    return report({name: answer_scenes(module, stills, count, recipe, style) for name, stills in sources.items()})


def _golden_frames(style: SceneStyle) -> NDArray[np.uint8]:
    """(B, T, H, W, 3): drawn, so that the model passes on no frame of anyone's data."""
    generator = np.random.default_rng(GOLDEN_SEED)
    scenes = [draw_scene([], 8 * max(GOLDEN_LENGTHS), style, generator).frames for _ in GOLDEN_LENGTHS]
    return np.stack([frames[: max(GOLDEN_LENGTHS)] for frames in scenes])
