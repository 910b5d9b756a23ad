"""The one way models are run: what waits at the same time shares a batch.

A unit of work is (chunk, length, state), so a whole clip, a chunk of a long video and a few frames of a live stream
all go through here. An inference thread that is free takes the work that has waited longest, with whatever else waits
for the same method of the same model at the same padded size. By default nothing waits for a timer: an idle service
answers at once, and batches grow only where work comes in faster than it is done.

Live work goes before files: a frame waits for the batches that run when it comes, not for those that wait. Even where
live work never ends, files get every ninth batch.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from app.errors import NotReady
from app.models import torchscript, warm_up
from app.models.store import ServedModel
from app.models.work import Answer, BeamSearch, Method, Work, padded_length, run_works

LIVE_BATCHES_IN_A_ROW = 8
"""After so many, a batch of files that wait runs: they get a ninth of the batches, and a live frame waits for one
batch more."""


OnBatch = Callable[[str, str, Method, int, int, float, Sequence[float]], None]
"""Called after each batch, on an inference thread, with (model name, version, method, batch size, valid frames, seconds
that it ran, seconds that each of its works had waited). Must not raise."""


_Key = tuple[int, Method, int, BeamSearch | None, int, torch.Size]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    work: Work
    key: _Key
    """Equal for what may share a batch: the model's identity, the method, the horizon, the search, the padded length,
    (H, W, 3)."""
    since: float
    future: Future[Answer]


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
        max_batch_samples: int = 2**21,
        batch_wait_seconds: float = 0.0,
        on_batch: OnBatch | None = None,
    ) -> None:
        """`num_threads`: as many as cores. `max_batch_frames` and `max_batch_samples` (of sound: 131 s at 16 kHz, 8 MB)
        count padding; a longer chunk runs alone. `batch_wait_seconds`: how long a batch waits to be full.

        The two defaults fit a core, and no setting of the service changes them: four convolutions and an LSTM at 96x72
        take 1.3 ms for a frame alone, 0.7 ms in batches of 8 to 64 frames, and 1.1 ms in one of 256.
        """
        self._max_batch_size = max_batch_size
        self._max_batch_frames = max_batch_frames
        self._max_batch_samples = max_batch_samples
        self._batch_wait_seconds = batch_wait_seconds
        self._on_batch = on_batch
        self._live_in_a_row = 0
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
        """The answer to come. Work cancelled before a thread takes it is never run. Raises NotReady once closed.

        A model's error reaches only the future of the work that caused it, whatever shared its batch.
        """
        key = id(work.model), work.method, work.horizon, work.search, padded_length(work), work.chunk.shape[1:]
        waiting = _Waiting(work, key, time.perf_counter(), Future())
        with self._changed:
            if self._closed:
                raise NotReady
            self._queue.append(waiting)
            self._changed.notify_all()  # one that waits for its batch to fill may not be the one that is free
        return waiting.future

    def close(self) -> None:
        """Fails waiting work with NotReady, lets running work finish, and joins the threads."""
        with self._changed:
            self._closed = True
            abandoned, self._queue = self._queue, []
            self._changed.notify_all()
        for waiting in abandoned:
            if waiting.future.set_running_or_notify_cancel():
                waiting.future.set_exception(NotReady())
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run_until_closed(self) -> None:
        # Runs of an LSTM a second, on two cores: 305 by one thread on one core, 556 by two such threads, 90 to 230 by
        # one on two cores. Set in each thread: after a call in another one, OpenMP still took all cores for some of
        # this one's layers (112 s instead of 14 s for tests/models/varied_lengths.py on a busy machine).
        torch.set_num_threads(1)
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        """Runs the next batch; False once closed. A function of its own, so that nothing of the batch is kept while the
        thread waits for the next."""
        batch = self._take()
        if batch:
            self._run(batch)
        return bool(batch)

    def _take(self) -> list[_Waiting]:
        """The work whose turn it is and all that may share its batch; empty when the scheduler is closed."""
        with self._changed:
            while not self._closed:
                self._queue = [waiting for waiting in self._queue if not waiting.future.cancelled()]
                if not self._queue:
                    self._changed.wait()
                    continue
                alike, room = self._next_alike()
                left_seconds = alike[0].since + self._batch_wait_seconds - time.perf_counter()
                if len(alike) < room and left_seconds > 0:
                    self._changed.wait(left_seconds)
                elif batch := self._split_off(alike[:room]):
                    return batch
            return []

    def _next_alike(self) -> tuple[list[_Waiting], int]:
        """The work whose turn it is, followed by what may share its batch, live work first; and how many may."""
        live = next((waiting for waiting in self._queue if waiting.work.live), None)
        file = next((waiting for waiting in self._queue if not waiting.work.live), None)
        first = file if live is None or (file and self._live_in_a_row >= LIVE_BATCHES_IN_A_ROW) else live
        assert first is not None
        others = [waiting for waiting in self._queue if waiting.key == first.key and waiting is not first]
        alike = [first, *sorted(others, key=lambda waiting: not waiting.work.live)]
        work = first.work
        in_all = self._max_batch_samples if work.model.manifest.input.media == "audio" else self._max_batch_frames
        return alike, min(self._max_batch_size, max(1, in_all // padded_length(work)))

    def _split_off(self, alike: Sequence[_Waiting]) -> list[_Waiting]:
        """Takes the largest power of two of `alike` off the queue; the batch is those not cancelled by now."""
        batch = alike[: 1 << (len(alike).bit_length() - 1)]
        taken = set(batch)
        self._queue = [waiting for waiting in self._queue if waiting not in taken]
        files_wait = any(not waiting.work.live for waiting in self._queue)
        self._live_in_a_row = self._live_in_a_row + 1 if batch[0].work.live and files_wait else 0
        return [waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()]

    def _run(self, batch: Sequence[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            outputs, states = run_works([waiting.work for waiting in batch])
            answered = list(zip(batch, outputs, states, strict=True))
        except Exception as error:  # noqa: BLE001 - the edge of the thread: it must live, and its futures must end
            if len(batch) == 1:
                lacks_memory = torchscript.lacks_memory(error)
                batch[0].future.set_exception(MemoryError("no memory to run a model") if lacks_memory else error)
            else:  # one bad work must not fail its neighbours
                for waiting in batch:
                    self._run([waiting])
            return
        seconds = time.perf_counter() - started
        queue_seconds = [started - waiting.since for waiting in batch]
        if self._on_batch is not None:
            model, method = batch[0].work.model.manifest, batch[0].work.method
            num_frames = sum(len(waiting.work.chunk) for waiting in batch if waiting.work.chunk.ndim > 1)
            self._on_batch(model.name, model.version, method, len(batch), num_frames, seconds, queue_seconds)
        for (waiting, output, state), waited in zip(answered, queue_seconds, strict=True):
            if all(map(_is_finite, output if state is None else (*output, state))):
                waiting.future.set_result(Answer(output, state, waited, seconds))
            else:  # nothing that came of it may be answered, or gone on from
                waiting.future.set_exception(ArithmeticError("the model answered NaN or infinity"))

    def warm_up(self, models: Iterable[ServedModel], step_length: int = 32) -> None:
        """Runs each model at the sizes that nearly every request has, until TorchScript has compiled it for them.

        `step_length`: frames in a chunk of a long video. Other sizes compile on first use.
        """

        def warm(model: ServedModel) -> None:
            for work in warm_up.first_works(model, step_length) * warm_up.RUNS:
                self.submit(work).result()

        with ThreadPoolExecutor(len(self._threads)) as pool:  # a model for each inference thread
            list(pool.map(warm, models))


def _is_finite(output: torch.Tensor) -> bool:
    return bool(torch.isfinite(output).all())
