"""The one way models are run: what waits at the same time shares a batch.

A unit of work is (chunk, length, state), so a whole clip, a chunk of a long video and, later, a few frames of a live
stream all go through here. Each inference thread, whenever it is free, takes the oldest waiting work and what else
waits for the same method of the same model at the same padded size. Nothing waits for a timer: an idle service answers
at once, and batches grow exactly as fast as work comes in quicker than it is done.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from app.errors import NotReady
from app.models.store import ServedModel

Method = Literal["forward", "step"]

WARM_UP_RUNS = 3
"""TorchScript compiles in the first runs of a method; by the third all are alike."""

STOPPING = "The service is stopping."
WARM_UP_SIDE = 64  # pixels, for a model that takes any size


@dataclass(frozen=True, slots=True)
class Work:
    """One chunk for one model."""

    model: ServedModel
    chunk: Tensor
    """(T, H, W, 3) uint8, all of it valid."""
    state: Tensor | None = None
    """(S,) to go on from with `step`; None: `forward`."""

    @property
    def method(self) -> Method:
        return "forward" if self.state is None else "step"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model made of one Work, on the CPU."""

    outputs: tuple[Tensor, ...]
    """forward: (logits (K,),); step: (now (T, K), so_far (T, K))."""
    state: Tensor | None
    """(S,) after the chunk; None from `forward`."""
    queue_seconds: float
    """Waited for a free thread."""
    infer_seconds: float
    """Took to run, with what shared its batch."""


OnBatch = Callable[[str, str, Method, int, int, float, Sequence[float]], None]
"""After each batch, on an inference thread: (model name, version, method, batch size, valid frames, seconds it ran,
seconds that each work of it had waited). Must not raise."""


_Key = tuple[int, Method, int, torch.Size]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    work: Work
    key: _Key
    """Equal for what may share a batch: the model's identity, the method, the padded length, (H, W, 3)."""
    since: float
    future: Future[Answer]


def bucket(length: int) -> int:
    """The length that `length` is padded to: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, ...

    oneDNN keeps the primitives of the last 1024 shapes. 1500 batches of 1-16 clips of 1-64 frames through a convolution
    and an LSTM: +223 MB as they are, +61 MB with bucketed lengths, +10 MB with batch sizes in powers of two as well
    (and no time lost to padding there: `_split_off_batch` leaves the rest waiting). With the half steps between powers
    of two, padding is at most a third of a batch.
    """
    power = 1 << max(length - 1, 0).bit_length()
    return power if length > power * 3 // 4 or power < 4 else power * 3 // 4


class Scheduler:
    """Inference threads and what waits for them. `submit` is safe from any thread; it refuses nothing, admission does.

    Answers equal those of the work run alone within 1e-5: rows of a batch do not see each other, and what lies beyond
    a length has no effect.
    """

    def __init__(
        self,
        num_threads: int,
        max_batch_size: int = 16,
        max_batch_frames: int = 64,
        on_batch: OnBatch | None = None,
    ) -> None:
        """`num_threads`: as many as cores. `max_batch_frames` counts padding; a longer chunk runs alone.

        On one core, by four convolutions and an LSTM at 96x72, a frame takes 1.3 ms alone, 0.7 ms in batches of 8 to 64
        frames, and 1.1 ms in one of 256. A GPU wants more.
        """
        self._max_batch_size = max_batch_size
        self._max_batch_frames = max_batch_frames
        self._on_batch = on_batch
        self._queue: list[_Waiting] = []  # oldest first
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run_until_closed, name=f"inference-{index}", daemon=True)
            for index in range(num_threads)
        ]

    @property
    def waiting(self) -> int:
        """Works that no thread has taken yet."""
        return len(self._queue)

    def start(self) -> None:
        """Starts the threads; what was submitted before waits until now."""
        for thread in self._threads:
            thread.start()

    def submit(self, work: Work) -> Future[Answer]:
        """The answer to come. Cancelled before a thread takes it, the work is never run. Raises NotReady once closed.

        An error of the model is the future's own, whatever shared its batch.
        """
        key = id(work.model), work.method, bucket(len(work.chunk)), work.chunk.shape[1:]
        waiting = _Waiting(work, key, time.perf_counter(), Future())
        with self._changed:
            if self._closed:
                raise NotReady(STOPPING)
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Fails what waits with NotReady, lets what runs come to its end, and joins the threads."""
        with self._changed:
            self._closed = True
            abandoned, self._queue = self._queue, []
            self._changed.notify_all()
        for waiting in abandoned:
            if waiting.future.set_running_or_notify_cancel():
                waiting.future.set_exception(NotReady(STOPPING))
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run_until_closed(self) -> None:
        # Runs of an LSTM a second, on two cores: 305 by one thread on one core, 556 by two such threads, 90 to 230 by
        # one on two cores. Set in each thread: after a call in another one, OpenMP still took all cores for some of
        # this one's layers (112 s instead of 14 s for tests/models/varied_lengths.py on a busy machine).
        torch.set_num_threads(1)
        while batch := self._take():
            self._run(batch)

    def _take(self) -> list[_Waiting]:
        """The oldest waiting work with all that may share its batch; empty when the scheduler is closed."""
        with self._changed:
            while True:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return []
                if batch := self._split_off_batch():
                    return batch

    def _split_off_batch(self) -> list[_Waiting]:
        """Takes a batch off the queue: the oldest work and what may share its batch, to the last power of two.

        Also takes off what was cancelled; empty when there was nothing else.
        """
        self._queue = [waiting for waiting in self._queue if not waiting.future.cancelled()]
        if not self._queue:
            return []
        key = self._queue[0].key
        alike = [waiting for waiting in self._queue if waiting.key == key]
        _, _, padded_length, _ = key
        limit = min(len(alike), self._max_batch_size, max(1, self._max_batch_frames // padded_length))
        batch = alike[: 1 << (limit.bit_length() - 1)]
        taken = set(batch)
        self._queue = [waiting for waiting in self._queue if waiting not in taken]
        return [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]

    def _run(self, batch: Sequence[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            outputs, states = _run_model([waiting.work for waiting in batch])
        except Exception as error:  # noqa: BLE001 - the edge of the thread: it must live, and its futures must end
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:  # one bad work must not fail its neighbours
                for waiting in batch:
                    self._run([waiting])
            return
        seconds = time.perf_counter() - started
        queue_seconds = [started - waiting.since for waiting in batch]
        if self._on_batch is not None:
            model, method = batch[0].work.model.manifest, batch[0].work.method
            num_frames = sum(len(waiting.work.chunk) for waiting in batch)
            self._on_batch(model.name, model.version, method, len(batch), num_frames, seconds, queue_seconds)
        for row, waiting in enumerate(batch):
            waiting.future.set_result(Answer(outputs[row], states[row], queue_seconds[row], seconds))

    def warm_up(self, models: Iterable[ServedModel], step_length: int = 32) -> None:
        """Runs each model at the sizes that nearly every request has, until TorchScript has compiled it for them.

        `step_length`: frames in a chunk of a long video. Other sizes compile on first use.
        """
        for model in models:
            wanted = model.manifest.input
            height = wanted.height if isinstance(wanted.height, int) else WARM_UP_SIDE
            width = wanted.width if isinstance(wanted.width, int) else WARM_UP_SIDE
            clip = torch.zeros(wanted.clip_length or step_length, height, width, 3, dtype=torch.uint8)
            chunk = torch.zeros(step_length, height, width, 3, dtype=torch.uint8)
            works = [Work(model, clip)]
            if model.manifest.causal:
                works.append(Work(model, chunk, model.module.initial_state(1, height, width)[0]))
            for work in works * WARM_UP_RUNS:
                self.submit(work).result()


@torch.inference_mode()
def _run_model(works: Sequence[Work]) -> tuple[list[tuple[Tensor, ...]], list[Tensor | None]]:
    """Outputs and states by work, of works with one key; copies, so that none keeps the whole batch in memory."""
    model, method = works[0].model, works[0].method
    lengths = [len(work.chunk) for work in works]
    frames = _stack_chunks([work.chunk for work in works], bucket(max(lengths))).to(model.device)
    valid = torch.tensor(lengths, device=model.device)
    if method == "forward":
        logits = model.module(frames, valid).cpu()  # (B, K)
        return [(row.clone(),) for row in logits], [None] * len(works)

    states = torch.stack([work.state.to(model.device) for work in works if work.state is not None])  # (B, S)
    (now, so_far), states = model.module.step(frames, valid, states)
    now, so_far, states = now.cpu(), so_far.cpu(), states.cpu()
    return (
        [(now[row, :length].clone(), so_far[row, :length].clone()) for row, length in enumerate(lengths)],
        [state.clone() for state in states],
    )


def _stack_chunks(chunks: Sequence[Tensor], length: int) -> Tensor:
    """(B, `length`, H, W, 3): the chunks, padded with black."""
    if len(chunks) == 1 and len(chunks[0]) == length:
        return chunks[0].unsqueeze(0)
    stacked = chunks[0].new_zeros(len(chunks), length, *chunks[0].shape[1:])
    for row, chunk in enumerate(chunks):
        stacked[row, : len(chunk)] = chunk
    return stacked
