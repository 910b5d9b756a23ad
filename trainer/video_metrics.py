"""How good a scripted classifier is on clips sampled as the service samples them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.cache import CachedVideo
from trainer.metrics import BATCH_SIZE, SHUFFLE_SEED, Evaluation, judge

CHUNK_FRAMES = 64
ABOUT_VIDEOS = (
    "Measured on the published file. One frame: the middle frame in the place of all others. "
    "Shuffled: the frames in a random order."
)


def measure_videos(module: Any, videos: Sequence[CachedVideo]) -> tuple[Evaluation, NDArray[np.float32]]:
    """The evaluation of a scripted classifier of uniform clips, and its scores (len(videos), K).

    Raises ValueError without videos.
    """
    return _measure(videos, [video.clip for video in videos], partial(score_clips, module))


def measure_streams(module: Any, videos: Sequence[CachedVideo]) -> tuple[Evaluation, NDArray[np.float32]]:
    """As `measure_videos`, of a classifier that is fed at a rate: all frames in the cache, chunk by chunk."""
    return _measure(videos, [video.frames for video in videos], partial(score_streams, module))


def _measure(
    videos: Sequence[CachedVideo],
    clips: Sequence[NDArray[np.uint8]],
    score: Callable[[Sequence[NDArray[np.uint8]]], NDArray[np.float32]],
) -> tuple[Evaluation, NDArray[np.float32]]:
    if not videos:
        raise ValueError("no videos to evaluate on")
    scores = score(clips)
    controls = {
        "one_frame": score([_one_frame(clip) for clip in clips]),
        "shuffled": score([_shuffled(clip, index) for index, clip in enumerate(clips)]),
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


def score_streams(module: Any, videos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Softmax scores (len(videos), K) of all of each video (T, H, W, 3), of any lengths."""
    scores = []
    with torch.inference_mode():
        for frames in videos:
            state = module.initial_state(1, *frames.shape[1:3])
            for start in range(0, len(frames), CHUNK_FRAMES):
                chunk = torch.from_numpy(frames[start : start + CHUNK_FRAMES].copy()).unsqueeze(0)
                (_, so_far), state = module.step(chunk, torch.tensor([chunk.shape[1]]), state)
            scores.append(so_far[0, -1].softmax(dim=0).numpy())
    return np.stack(scores)


def _one_frame(clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(clip[len(clip) // 2][None], len(clip), axis=0)


def _shuffled(clip: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    return clip[np.random.default_rng((SHUFFLE_SEED, index)).permutation(len(clip))]
