"""Plans the training of a describer of camera work and edits, on videos of any kind."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.jit import ScriptModule
from torch.utils.data import DataLoader

from app.models.manifest import SPECIAL_WORDS, CaptionOutput, Input
from trainer.caption_metrics import caption_metrics
from trainer.data.described_scenes import DESCRIBED_STYLE, draw_described
from trainer.data.filmed_scenes import FilmedScene, SceneReader, film_scenes
from trainer.data.listing import Split
from trainer.data.prepare import DataSet
from trainer.data.rows import InvalidListing
from trainer.data.scene_labels import LABELS
from trainer.data.sentences import to_facts, to_words, vocabulary
from trainer.data.splits import kept_apart, split_by_group
from trainer.data.stills import still_spec, stills_of
from trainer.data.words import Tokens
from trainer.fact_scores import Count, FactScores
from trainer.networks.camera_steps import CameraSteps
from trainer.networks.describer import Describer
from trainer.networks.recurrent import Cell
from trainer.networks.writing import StepClock
from trainer.plan import Plan, PlanOptions, Report
from trainer.plans.evaluating import NOTHING_HELD_BACK
from trainer.plans.examples import full_batch_size
from trainer.plans.unlabelled import decode_any, list_any
from trainer.recipe.caption import DescribeRecipe
from trainer.tables import table
from trainer.tasks.caption import CaptionTask
from trainer.tasks.clips import DrawSampler
from trainer.tasks.scene_comments import Example, SceneComments, Shares, certain, collate, facts_of

SEEDS: dict[Split, int] = {"val": 1_000_003, "test": 2_000_003}
"""Of the scenes held back; training scenes take the seed of the training."""
GOLDEN_LENGTHS = (30, 24)
BEAM = 4
MIRROR_SHARE = 0.5
EXAMPLES = 6
LIMITS = (
    "It knows generated scenes: real hands, lenses and editors do what no generator does.",
    "It says what the camera does and how shots are joined, never what is to be seen.",
    "A motion that lasts less than half a second is not told, nor are flashes and moving things.",
)


def plan_describe(recipe: DescribeRecipe, options: PlanOptions) -> Plan:
    """The training of a Describer on scenes made of the stills of videos; their labels do not matter.

    Raises InvalidListing for data that cannot be trained on.
    """
    style, rate, writing = DESCRIBED_STYLE, DESCRIBED_STYLE.rate, recipe.writing
    reader = SceneReader(recipe.input.camera)
    scenes, data = _film(recipe, reader, options)
    filmed = scenes.pop("train", [])
    if not filmed:
        raise InvalidListing("no scenes to train on are left")
    words = (*SPECIAL_WORDS, *vocabulary(recipe.input.max_seconds))
    network, tokens = _network(recipe, reader, options.cell, len(words)), Tokens(words)
    train = SceneComments(filmed, rate, tokens, Shares(MIRROR_SHARE, recipe.sampling.part_share), options.seed)
    val = SceneComments(scenes.get("val", []), rate, tokens, Shares(), SEEDS["val"])
    batch_size = full_batch_size(recipe.budget.batch_size, len(train), options)
    sampler = DrawSampler(len(train), options.seed)

    def evaluate(module: ScriptModule, folder: Path) -> Report:
        judged = scenes or {"train": filmed[: recipe.sampling.validation_scenes]}
        return report(
            {name: describe_scenes(module, found, tokens, writing.max_length, rate) for name, found in judged.items()}
        )

    return Plan(
        learner=CaptionTask(network, recipe.optimisation, writing.max_length, len(LABELS)),
        train=DataLoader[Example](train, batch_size, sampler=sampler, drop_last=True, collate_fn=collate),
        val=DataLoader[Example](val, batch_size, collate_fn=collate) if len(val) else None,
        input=Input(
            media="video",
            width=style.width,
            height=style.height,
            fit="stretch",
            sampling="rate",
            rate=rate,
            clip_length=round(recipe.input.max_seconds * rate),
        ),
        output=CaptionOutput(
            vocabulary=words,
            max_length=writing.max_length,
            length_penalty=writing.length_penalty,
            numbers_are_seconds=True,
        ),
        golden=(_golden_frames(), np.array(GOLDEN_LENGTHS)),
        summary="Tells in a sentence how the camera moves, how a video is cut, and how bright and busy it is.",
        num_examples=data.num_videos(),
        kept_apart=kept_apart(data.videos),
        headline="exact_match",
        evaluate=evaluate,
    )


def _network(recipe: DescribeRecipe, reader: SceneReader, cell: Cell, num_tokens: int) -> Describer:
    clock = StepClock(DESCRIBED_STYLE.rate, recipe.input.max_seconds)
    num_words = num_tokens - len(SPECIAL_WORDS) - clock.num_words
    return Describer(CameraSteps(reader.camera), cell, recipe.writing.size, num_words, clock)


def _film(
    recipe: DescribeRecipe, reader: SceneReader, options: PlanOptions
) -> tuple[dict[Split, list[FilmedScene]], DataSet]:
    """Scenes for every split that has videos, and those videos."""
    stills = recipe.stills
    videos = split_by_group(list_any(options.data), options.data.val_fraction, options.data.test_fraction)
    data = decode_any(videos, still_spec(stills.width, stills.height, stills.per_video), options.data)
    wanted = recipe.sampling
    counts = {"train": wanted.train_scenes, "val": wanted.validation_scenes, "test": wanted.test_scenes}
    seeds = SEEDS | {"train": options.seed}
    scenes = {}
    for split in ("train", *SEEDS):
        if found := stills_of(data, split):
            filmed = film_scenes(
                found, counts[split], DESCRIBED_STYLE, seeds[split], reader, options.data.cache, options.num_loaders
            )
            scenes[split] = certain(filmed, DESCRIBED_STYLE.rate)
    return scenes, data


Described = list[tuple[tuple[str, ...], tuple[str, ...]]]
"""For each scene, the best comment and the one right sentence."""


def describe_scenes(
    module: ScriptModule, scenes: Sequence[FilmedScene], tokens: Tokens, max_length: int, rate: float
) -> Described:
    """What the compiled network writes about filmed scenes, each alone, by beam search without length penalty."""
    described: Described = []
    for scene in scenes:
        steps = torch.from_numpy(scene.steps)[None]
        with torch.inference_mode():
            written, _ = module.search(steps, torch.tensor([len(scene.steps)]), BEAM, max_length, 0.0)
        facts = facts_of(scene, rate)
        assert facts is not None
        described.append((tokens.decode(written[0, 0].tolist()), to_words(facts)))
    return described


def report(described: dict[str, Described]) -> Report:
    """The report on comments, given by the name of their set; only `train` if nothing was held back."""
    metrics: dict[str, dict[str, float]] = {}
    facts: dict[str, FactScores] = {}
    for name, pairs in described.items():
        scores = facts[name] = FactScores()
        for said, true in pairs:
            known = to_facts(true)
            assert known is not None
            scores.add(to_facts(said), known)
        found = caption_metrics([said for said, _ in pairs], [[true] for _, true in pairs])
        for kind, count in _kinds(scores).items():
            found |= {f"{kind}_precision": count.precision, f"{kind}_recall": count.recall}
        metrics[name] = {figure: value for figure, value in found.items() if np.isfinite(value)}
    last = next(reversed(described))
    of_videos = "trained on, for nothing was held back" if last == "train" else "that are in no other set"
    text = (
        f"Generated scenes of videos {of_videos}, each with the one sentence that is true of it. Exact match is of "
        "every word, times included.\n\n"
        f"{_metrics_table(metrics)}\n\nFacts, precision / recall: motions by shot, edits by kind, and times within "
        f"0.2 s for cuts and 0.75 s for what is told by whole seconds:\n\n{_facts_table(facts)}\n\n"
        f"The first of the set {last} that are wrong:\n\n{_examples(described[last])}"
    )
    limits = (*LIMITS, NOTHING_HELD_BACK) if last == "train" else LIMITS
    return Report(metrics=metrics, text=text, limits=limits)


def _kinds(scores: FactScores) -> dict[str, Count]:
    return {"looks": scores.looks, "moves": scores.moves, "edits": scores.edits, "times": scores.times}


def _metrics_table(metrics: dict[str, dict[str, float]]) -> str:
    names = ("exact_match", "bleu_4", "rouge_l", "cider_d")
    rows = [[name, *(f"{found[figure]:.3f}" for figure in names)] for name, found in metrics.items()]
    return table([["set", "exact match", "BLEU-4", "ROUGE-L", "CIDEr-D"], *rows])


def _facts_table(facts: dict[str, FactScores]) -> str:
    columns = {name: _kinds(scores) | scores.by_move | scores.by_edit for name, scores in facts.items()}
    kinds = list(dict.fromkeys(kind for found in columns.values() for kind in found))
    rows = [[kind, *(_shown(found.get(kind, Count())) for found in columns.values())] for kind in kinds]
    return table([["fact", *columns], *rows])


def _shown(count: Count) -> str:
    if not count.num_true or not count.num_said:
        return f"– ({count.num_true} true, {count.num_said} said)"
    return f"{count.precision:.2f} / {count.recall:.2f} of {count.num_true}"


def _examples(pairs: Described) -> str:
    wrong = [(said, true) for said, true in pairs if said != true][:EXAMPLES]
    return "\n".join(f"- said: {' '.join(said)}\n  true: {' '.join(true)}" for said, true in wrong) or "none"


def _golden_frames() -> NDArray[np.uint8]:
    """(B, T, H, W, 3): drawn, so that the model passes on no frame of anyone's data."""
    generator = np.random.default_rng(0)
    scenes = [draw_described([], DESCRIBED_STYLE, generator)[0].frames for _ in GOLDEN_LENGTHS]
    return np.stack([frames[: max(GOLDEN_LENGTHS)] for frames in scenes])
