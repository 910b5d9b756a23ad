"""How good a scripted classifier is on clips sampled as the service samples them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.cache import CachedVideo
from trainer.metrics import BATCH_SIZE, SHUFFLE_SEED, Evaluation, judge

ABOUT_VIDEOS = (
    "Measured on the published file. One frame: the middle frame in the place of all others. "
    "Shuffled: the frames in a random order."
)


def measure_videos(module: Any, videos: Sequence[CachedVideo]) -> tuple[Evaluation, NDArray[np.float32]]:
    """The evaluation of a scripted classifier, and its scores (len(videos), K).

    Raises ValueError without videos.
    """
    if not videos:
        raise ValueError("no videos to evaluate with")
    clips = [video.clip for video in videos]
    scores = score_clips(module, clips)
    controls = {
        "one_frame": score_clips(module, [_one_frame(clip) for clip in clips]),
        "shuffled": score_clips(module, [_shuffled(clip, index) for index, clip in enumerate(clips)]),
    }
    return judge(videos, scores, controls), scores


def score_clips(module: Any, clips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Softmax scores (len(clips), K) of clips (T, H, W, 3) that all have one shape."""
    batches = []
    with torch.inference_mode():
        for start in range(0, len(clips), BATCH_SIZE):
            frames = torch.from_numpy(np.stack(clips[start : start + BATCH_SIZE]))
            lengths = torch.full((frames.shape[0],), frames.shape[1])
            batches.append(module(frames, lengths).softmax(dim=1).numpy())
    return np.concatenate(batches)


def _one_frame(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(clip[len(clip) // 2][None], len(clip), axis=0)


def _shuffled(clip: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    return clip[np.random.default_rng((SHUFFLE_SEED, index)).permutation(len(clip))]
