"""Plans the training of a describer, on videos that people have described."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.jit import ScriptModule
from torch.utils.data import DataLoader, Dataset

from app.models.manifest import SPECIAL_WORDS, CaptionOutput, Input
from trainer.caption_metrics import caption_metrics
from trainer.data.captions import read_captions
from trainer.data.decode import CacheSpec
from trainer.data.filling import BrokenVideo, tell
from trainer.data.listing import Split
from trainer.data.rows import InvalidListing
from trainer.data.splits import kept_apart, split_by_group
from trainer.data.words import Tokens, learn_vocabulary, split_words
from trainer.networks.describer import Describer
from trainer.networks.frame_steps import FrameSteps
from trainer.networks.writing import StepClock
from trainer.plan import Plan, PlanOptions, Report
from trainer.plans.evaluating import NOTHING_HELD_BACK
from trainer.plans.examples import full_batch_size
from trainer.plans.unlabelled import decode_any
from trainer.recipe.caption import CaptionRecipe
from trainer.tables import table
from trainer.tasks.caption import CaptionTask
from trainer.tasks.clips import DrawSampler
from trainer.tasks.scene_comments import Example, collate

BEAM = 4
GOLDEN_LENGTHS = (4, 3)
LIMITS = (
    "It was trained from nothing on the videos named above: it says what such videos are often about.",
    "Words that are rare in its captions are not in its vocabulary.",
)


@dataclass(frozen=True, slots=True)
class DescribedClip:
    frames: NDArray[np.uint8]
    """(T, H, W, 3), sampled as the service does."""
    captions: tuple[tuple[str, ...], ...]
    """Each as its words."""


class CaptionedClips(Dataset[Example]):
    """Item `draw` is a clip with one of its captions, picked by the seed and `draw` alone."""

    def __init__(self, clips: Sequence[DescribedClip], tokens: Tokens, max_length: int, seed: int) -> None:
        self.clips = clips
        self.tokens = tokens
        self.max_words = max_length - 1  # and <eos>
        self.seed = seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: int) -> Example:
        clip = self.clips[draw % len(self.clips)]
        words = clip.captions[int(np.random.default_rng((self.seed, draw)).integers(len(clip.captions)))]
        no_labels = torch.empty(len(clip.frames), 0)
        return torch.from_numpy(clip.frames), torch.tensor(self.tokens.encode(words[: self.max_words])), no_labels


def plan_caption(recipe: CaptionRecipe, options: PlanOptions) -> Plan:
    """The training of a Describer on videos of a CSV with the columns `path` and `caption`.

    Raises InvalidListing for data that cannot be trained on.
    """
    if options.data.test_data:
        raise InvalidListing("captions take no --test-data: mark test videos in the CSV's column `split`")
    captioned = read_captions(options.data.data, options.data.group_pattern)
    captions = {one.video.path: tuple(filter(None, map(split_words, one.captions))) for one in captioned}
    videos = [one.video for one in captioned if captions[one.video.path]]
    tell(BrokenVideo(one.video, "no words in its captions") for one in captioned if not captions[one.video.path])
    wanted, writing = recipe.input, recipe.writing
    videos = split_by_group(videos, options.data.val_fraction, options.data.test_fraction)
    spec = CacheSpec(wanted.width, wanted.height, wanted.fit, wanted.clip_length, 0, 0, 0.0)
    data = decode_any(videos, spec, options.data)
    clips: dict[Split, list[DescribedClip]] = {
        split: [DescribedClip(video.clip, captions[Path(video.path)]) for video in data.opened(split)]
        for split in ("train", "val", "test")
    }
    if not clips["train"]:
        raise InvalidListing(f"none of {len(videos)} described videos is left to train on")
    least_count = recipe.words.least_count
    words = learn_vocabulary((one for clip in clips["train"] for one in clip.captions), least_count)
    if len(words) == len(SPECIAL_WORDS):
        raise InvalidListing(
            f"no word comes {least_count} times in the captions to train on: more of them, or a lower words.least_count"
        )
    tokens, frames = Tokens(words), recipe.frames
    steps = FrameSteps(frames.num_channels, frames.blocks_per_stage, frames.size, frames.dropout)
    clock = StepClock(wanted.rate, 0)
    network = Describer(steps, options.cell, writing.size, len(words) - len(SPECIAL_WORDS), clock)
    train = CaptionedClips(clips["train"], tokens, writing.max_length, options.seed)
    held_back = CaptionedClips(clips["val"], tokens, writing.max_length, options.seed)
    batch_size = full_batch_size(recipe.budget.batch_size, len(train), options)
    return Plan(
        learner=CaptionTask(network, recipe.optimisation, writing.max_length),
        train=DataLoader[Example](
            train, batch_size, sampler=DrawSampler(len(train), options.seed), drop_last=True, collate_fn=collate
        ),
        val=DataLoader[Example](held_back, batch_size, collate_fn=collate) if len(held_back) else None,
        input=Input(
            media="video",
            width=wanted.width,
            height=wanted.height,
            fit=wanted.fit,
            sampling="uniform",
            clip_length=wanted.clip_length,
            rate=wanted.rate,
        ),
        output=CaptionOutput(vocabulary=words, max_length=writing.max_length, length_penalty=writing.length_penalty),
        golden=_golden(recipe),
        summary="Describes a video in a sentence.",
        num_examples=data.num_videos(),
        kept_apart=kept_apart(videos),
        headline="cider_d",
        evaluate=lambda module, folder: _evaluate(module, clips, tokens, recipe),
    )


def _evaluate(
    module: ScriptModule, clips: dict[Split, list[DescribedClip]], tokens: Tokens, recipe: CaptionRecipe
) -> Report:
    """The report on `val` and, this once, on `test`; on `train` if nothing was held back."""
    names: tuple[Split, ...] = ("val", "test")
    sets = [split for split in names if clips[split]] or ["train"]
    metrics: dict[str, dict[str, float]] = {}
    for split in sets:
        comments = [_write(module, clip, tokens, recipe) for clip in clips[split]]
        metrics[split] = caption_metrics(comments, [clip.captions for clip in clips[split]])
    figures = ("bleu_4", "rouge_l", "cider_d", "exact_match")
    rows = [[split, *(f"{found[figure]:.3f}" for figure in figures)] for split, found in metrics.items()]
    text = "Lower-case words without punctuation, against all references of a video; beam search.\n\n" + table(
        [["set", "BLEU-4", "ROUGE-L", "CIDEr-D", "exact match"], *rows]
    )
    limits = (*LIMITS, NOTHING_HELD_BACK) if sets == ["train"] else LIMITS
    return Report(metrics=metrics, text=text, limits=limits)


def _write(module: ScriptModule, clip: DescribedClip, tokens: Tokens, recipe: CaptionRecipe) -> tuple[str, ...]:
    frames = torch.from_numpy(clip.frames)[None]
    writing = recipe.writing
    with torch.inference_mode():
        written, _ = module(frames, torch.tensor([frames.shape[1]]), BEAM, writing.max_length, writing.length_penalty)
    return tokens.decode(written[0, 0].tolist())


def _golden(recipe: CaptionRecipe) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise, so that the model passes on no frame of anyone's data."""
    shape = (len(GOLDEN_LENGTHS), max(GOLDEN_LENGTHS), recipe.input.height, recipe.input.width, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return frames, np.array(GOLDEN_LENGTHS)
