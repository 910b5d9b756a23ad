"""One chunk for one model, and running several of them as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from app.models.store import ServedModel

Method = Literal["forward", "step", "decode", "clip", "log_mel"]


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """How a describer of video looks for its comments."""

    beam: int
    """Comments that are kept while they are written, and answered."""
    max_length: int
    """Tokens; longer comments are broken off."""
    length_penalty: float
    """0: by probability alone; 1: nearly by the mean over the words, which favours longer ones."""


@dataclass(frozen=True, slots=True)
class Work:
    """One chunk for one model."""

    model: ServedModel
    chunk: Tensor
    """(T, H, W, 3) uint8 or (N,) float32, all of it valid; of length 0 for `clip` and `decode`: the state is all."""
    method: Method = "forward"
    state: Tensor | None = None
    """(S,) for `step` to go on from, for `decode` to forecast from, or for `clip` to sum up."""
    horizon: int = 0
    """Frames that `forward` or `decode` of a forecaster shall answer."""
    search: BeamSearch | None = None
    """For `forward` of a describer of video."""
    live: bool = False
    """Somebody is watching: goes before what is not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model made of one Work, on the CPU."""

    outputs: tuple[Tensor, ...]
    """What the method answers for one row of a batch. Of `step`: valid steps alone, (T, ...) each."""
    state: Tensor | None
    """(S,) after the chunk; None but from `step`."""
    queue_seconds: float
    """Waited for a free thread."""
    infer_seconds: float
    """Took to run, with what shared its batch."""


def bucket(length: int) -> int:
    """The length that `length` is padded to: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, ...

    oneDNN keeps the primitives of the last 1024 shapes. 1500 batches of 1-16 clips of 1-64 frames through a convolution
    and an LSTM: +223 MB as they are, +61 MB with bucketed lengths, +10 MB with batch sizes in powers of two as well
    (and no time lost to padding there: `_split_off` leaves the rest waiting). With the half steps between powers
    of two, padding is at most a third of a batch.
    """
    power = 1 << max(length - 1, 0).bit_length()
    return power if length > power * 3 // 4 or power < 4 else power * 3 // 4


def padded_length(work: Work) -> int:
    """Frames or samples that the work's chunk is padded to. Sound is counted in steps of the model, or in 0.1 s."""
    wanted = work.model.manifest.input
    if wanted.sample_rate is None:
        return bucket(len(work.chunk))
    unit = wanted.step_samples or wanted.sample_rate // 10
    return bucket(-(-len(work.chunk) // unit)) * unit


@torch.inference_mode()
def run_works(works: Sequence[Work]) -> tuple[list[tuple[Tensor, ...]], list[Tensor | None]]:
    """Outputs and states by work, for works that may share a batch; copies, so that none keeps the batch in memory."""
    model = works[0].model
    method = works[0].method
    if method == "decode":
        height, width = works[0].chunk.shape[1:3]
        forecasts = model.module.decode(_stack_states(works).to(model.device), works[0].horizon, height, width)
        return [(forecast.clone(),) for forecast in forecasts.cpu()], [None] * len(works)
    if method == "clip":
        (clips,) = _on_cpu(model.module.clip(_stack_states(works).to(model.device)))  # (B, D)
        return [(clip.clone(),) for clip in clips], [None] * len(works)
    lengths = [len(work.chunk) for work in works]
    padded = padded_length(max(works, key=lambda work: len(work.chunk)))
    chunks = _stack_chunks([work.chunk for work in works], padded).to(model.device)
    valid = torch.tensor(lengths, device=model.device)
    if method != "step":
        outputs = _on_cpu(getattr(model.module, method)(chunks, valid, *_asked(works[0])))
        return [tuple(output[row].clone() for output in outputs) for row in range(len(works))], [None] * len(works)

    stepped, states = model.module.step(chunks, valid, _stack_states(works).to(model.device))
    outputs, (states,) = _on_cpu(stepped), _on_cpu(states)
    return (
        [
            # As many steps of each output are valid as there are whole steps in the row's part of the padded length.
            tuple(output[row, : output.shape[1] * length // padded].clone() for output in outputs)
            for row, length in enumerate(lengths)
        ],
        [state.clone() for state in states],
    )


def _asked(work: Work) -> tuple[int | float, ...]:
    """What the method is given beside its input."""
    if work.search is not None:
        return work.search.beam, work.search.max_length, work.search.length_penalty
    return (work.horizon,) if work.horizon else ()


def _on_cpu(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(output.cpu() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs))


def _stack_states(works: Sequence[Work]) -> Tensor:
    """(B, S)"""
    return torch.stack([work.state for work in works if work.state is not None])


def _stack_chunks(chunks: Sequence[Tensor], length: int) -> Tensor:
    """(B, `length`, ...): the chunks, padded with black or silence."""
    if len(chunks) == 1 and len(chunks[0]) == length:
        return chunks[0].unsqueeze(0)
    stacked = chunks[0].new_zeros(len(chunks), length, *chunks[0].shape[1:])
    for row, chunk in enumerate(chunks):
        stacked[row, : len(chunk)] = chunk
    return stacked
