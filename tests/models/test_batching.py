import asyncio
import os
import random
import statistics
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from app.errors import NotReady
from app.models import warm_up
from app.models.batching import LIVE_BATCHES_IN_A_ROW, Scheduler
from app.models.store import ServedModel, load_version
from app.models.torchscript import RUN_ERRORS, script
from app.models.work import Work, bucket
from tests.tiny_forecaster import write_forecaster
from tests.tiny_models import AroundTiny, write_version

TOLERANCE = 1e-5  # the contract's: padded, batched and alone
WAIT_SECONDS = 60


class RefusesWhite(AroundTiny):
    """A classifier that fails, with all of its batch, where a clip begins with a white frame."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        if bool((frames[:, 0] == 255).flatten(1).all(dim=1).any()):
            raise RuntimeError("white")
        return self.inner(frames, lengths)


class KnowsOneState(AroundTiny):
    """A classifier whose `step` answers the state of the first row alone, as one that was written for it would."""

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        outputs, state = self.inner.step(chunk, lengths, state)
        return outputs, state[:1]


@dataclass
class Batches:
    """What the scheduler reported."""

    sizes: list[int] = field(default_factory=list)
    num_frames: int = 0
    methods: set[tuple[str, str, str]] = field(default_factory=set)
    waits: list[float] = field(default_factory=list)

    def add(self, name: str, version: str, method: str, size: int, frames: int, seconds: float, waits: list[float]):
        assert len(waits) == size
        assert seconds > 0
        self.sizes.append(size)
        self.num_frames += frames
        self.methods.add((name, version, method))
        self.waits.extend(waits)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return load_version(write_version(tmp_path_factory.mktemp("model_store")))


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
def make_scheduler(batches: Batches) -> Iterator[Callable[..., Scheduler]]:
    """Schedulers that are not started yet: what is submitted first is sure to wait together."""
    made: list[Scheduler] = []

    def make(**arguments: int) -> Scheduler:
        made.append(Scheduler(on_batch=batches.add, **arguments))
        return made[-1]

    yield make
    for scheduler in made:
        scheduler.close()


def make_clip(length: int, seed: int = 0, height: int = 24, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (length, height, width, 3), dtype=torch.uint8, generator=generator)


def forward_alone(model: ServedModel, clip: Tensor) -> Tensor:
    return model.module(clip.unsqueeze(0), torch.tensor([len(clip)]))[0]


def test_what_waits_together_shares_batches_and_answers_as_alone(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=2)
    clips = [make_clip(8, seed) for seed in range(16)]
    futures = [scheduler.submit(Work(model, clip)) for clip in clips]
    assert scheduler.waiting == 16
    scheduler.start()
    for clip, future in zip(clips, futures, strict=True):
        answer = future.result(WAIT_SECONDS)
        torch.testing.assert_close(answer.outputs[0], forward_alone(model, clip), rtol=0, atol=TOLERANCE)
        assert answer.state is None
        assert answer.queue_seconds > 0
        assert answer.infer_seconds > 0
    assert scheduler.waiting == 0
    assert statistics.mean(batches.sizes) > 1
    assert sum(batches.sizes) == 16
    assert batches.num_frames == 16 * 8
    assert batches.methods == {("tiny", "1", "forward")}


def test_lengths_of_one_bucket_share_a_batch(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1)
    clips = [make_clip(length, length) for length in (9, 10, 11, 12)]
    futures = [scheduler.submit(Work(model, clip)) for clip in clips]
    scheduler.start()
    for clip, future in zip(clips, futures, strict=True):
        logits = future.result(WAIT_SECONDS).outputs[0]
        torch.testing.assert_close(logits, forward_alone(model, clip), rtol=0, atol=TOLERANCE)
    assert batches.sizes == [4]
    assert batches.num_frames == 9 + 10 + 11 + 12


def test_what_cannot_share_a_batch_does_not(model, make_scheduler, batches, tmp_path):
    scheduler = make_scheduler(num_threads=1)
    other = load_version(write_version(tmp_path, "other", seed=1))
    state = torch.zeros(model.manifest.state_size)
    works = [
        Work(model, make_clip(8)),
        Work(model, make_clip(16)),
        Work(model, make_clip(8, height=16, width=16)),
        Work(model, make_clip(8), "step", state),
        Work(other, make_clip(8)),
        Work(model, make_clip(7)),  # padded to 8: with the first
    ]
    futures = [scheduler.submit(work) for work in works]
    scheduler.start()
    for work, future in zip(works, futures, strict=True):
        answer = future.result(WAIT_SECONDS)
        if work.state is None:
            expected = forward_alone(work.model, work.chunk)
            torch.testing.assert_close(answer.outputs[0], expected, rtol=0, atol=TOLERANCE)
    assert batches.sizes == [2, 1, 1, 1, 1]


def test_streams_that_step_side_by_side_equal_one_forward(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=2)
    scheduler.start()
    rng = random.Random(0)
    clips = [make_clip(rng.randint(20, 40), seed) for seed in range(12)]
    last: dict[int, Tensor] = {}

    def stream(index: int, lengths: list[int]) -> None:
        state = model.module.initial_state(1, 24, 32)[0]
        clip, done = clips[index], 0
        for length in lengths:
            chunk = clip[done : done + length]
            answer = scheduler.submit(Work(model, chunk, "step", state)).result(WAIT_SECONDS)
            now, so_far = answer.outputs
            assert now.shape == so_far.shape == (len(chunk), 3)
            state, done = answer.state, done + len(chunk)
            last[index] = so_far[-1] if len(chunk) else last[index]

    splits = [[7, 0, *(rng.randint(1, 6) for _ in range(40))] for _ in clips]
    threads = [threading.Thread(target=stream, args=(index, split)) for index, split in enumerate(splits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    for index, (clip, split) in enumerate(zip(clips, splits, strict=True)):
        assert sum(split) >= len(clip)
        torch.testing.assert_close(last[index], forward_alone(model, clip), rtol=0, atol=TOLERANCE)
    assert statistics.mean(batches.sizes) > 1


def test_step_answers_only_valid_frames_and_the_state_after_them(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    clip, initial = make_clip(5), model.module.initial_state(1, 24, 32)
    future = scheduler.submit(Work(model, clip, "step", initial[0]))
    scheduler.start()
    answer = future.result(WAIT_SECONDS)
    (now, so_far), state = model.module.step(clip.unsqueeze(0), torch.tensor([5]), initial)
    for found, expected in zip((*answer.outputs, answer.state), (now[0], so_far[0], state[0]), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_an_answer_keeps_nothing_else_of_its_batch_alive(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    state = torch.zeros(model.manifest.state_size)
    futures = [scheduler.submit(Work(model, make_clip(3), "step", state)) for _ in range(8)]
    scheduler.start()
    for future in futures:
        answer = future.result(WAIT_SECONDS)
        for tensor in (*answer.outputs, answer.state):
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_a_thread_that_waits_keeps_nothing_of_the_batch_before(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    scheduler.start()
    chunk = make_clip(3)
    is_alive = weakref.ref(chunk)
    scheduler.submit(Work(model, chunk)).result(WAIT_SECONDS)
    del chunk
    end = time.monotonic() + WAIT_SECONDS
    while is_alive() is not None and time.monotonic() < end:  # the thread goes back to waiting a moment later
        time.sleep(0.01)
    assert is_alive() is None


def test_a_batch_is_no_larger_than_the_limits(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1, max_batch_size=4, max_batch_frames=32)
    futures = [scheduler.submit(Work(model, make_clip(length))) for length in [1] * 9 + [16] * 3 + [50]]
    scheduler.start()
    for future in futures:
        future.result(WAIT_SECONDS)
    assert batches.sizes == [4, 4, 1, 2, 1, 1]


def test_batch_sizes_are_powers_of_two(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1)
    futures = [scheduler.submit(Work(model, make_clip(1))) for _ in range(15)]
    scheduler.start()
    for future in futures:
        future.result(WAIT_SECONDS)
    assert batches.sizes == [8, 4, 2, 1]


def test_the_oldest_goes_first(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    order: list[int] = []
    for index, length in enumerate([32, 1, 16, 2]):
        future = scheduler.submit(Work(model, make_clip(length)))
        future.add_done_callback(lambda _, index=index: order.append(index))
    scheduler.start()
    future.result(WAIT_SECONDS)
    assert order == [0, 1, 2, 3]


def test_cancelled_work_is_never_run(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1)
    futures = [scheduler.submit(Work(model, make_clip(8, seed))) for seed in range(4)]
    assert futures[0].cancel()
    assert futures[2].cancel()
    scheduler.start()
    torch.testing.assert_close(
        futures[3].result(WAIT_SECONDS).outputs[0], forward_alone(model, make_clip(8, 3)), rtol=0, atol=TOLERANCE
    )
    assert batches.sizes == [2]


def test_a_request_that_is_gone_takes_its_work_with_it(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1)

    async def requests() -> None:
        gone = asyncio.wrap_future(scheduler.submit(Work(model, make_clip(8))))
        stays = asyncio.wrap_future(scheduler.submit(Work(model, make_clip(8))))
        gone.cancel()
        await asyncio.sleep(0)  # the cancellation reaches the scheduler's future on the next turn of the loop
        scheduler.start()
        await asyncio.wait_for(stays, WAIT_SECONDS)

    asyncio.run(requests())
    assert batches.sizes == [1]


def test_one_bad_clip_fails_alone(make_scheduler, tmp_path):
    model = load_version(write_version(tmp_path, "refuses", module=RefusesWhite()))
    scheduler = make_scheduler(num_threads=1)
    white = torch.full((8, 24, 32, 3), 255, dtype=torch.uint8)
    clips = [make_clip(8, 0), white, make_clip(8, 1), make_clip(8, 2)]
    futures = [scheduler.submit(Work(model, clip)) for clip in clips]
    scheduler.start()
    for clip, future in zip(clips, futures, strict=True):
        if clip is white:
            with pytest.raises(RUN_ERRORS, match="white"):
                future.result(WAIT_SECONDS)
        else:
            logits = future.result(WAIT_SECONDS).outputs[0]
            torch.testing.assert_close(logits, forward_alone(model, clip), rtol=0, atol=TOLERANCE)
    later = scheduler.submit(Work(model, clips[0]))
    assert later.result(WAIT_SECONDS).outputs[0].shape == (3,)


def test_a_state_of_the_wrong_size_fails_alone(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    state = torch.zeros(model.manifest.state_size)
    futures = [scheduler.submit(Work(model, make_clip(4), "step", some)) for some in (state, state[:-1])]
    scheduler.start()
    assert futures[0].result(WAIT_SECONDS).state.shape == state.shape
    with pytest.raises(RUN_ERRORS):
        futures[1].result(WAIT_SECONDS)


def test_a_model_that_answers_for_one_row_is_run_for_each(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    one = replace(model, module=script(KnowsOneState()))
    state = torch.zeros(model.manifest.state_size)
    futures = [scheduler.submit(Work(one, make_clip(4, seed), "step", state)) for seed in range(2)]
    scheduler.start()
    for seed, future in enumerate(futures):
        _, (expected,) = one.module.step(make_clip(4, seed)[None], torch.tensor([4]), state[None])
        torch.testing.assert_close(future.result(10).state, expected, rtol=0, atol=TOLERANCE)


def test_what_is_no_number_fails_alone(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1)
    state = torch.zeros(model.manifest.state_size)
    futures = [scheduler.submit(Work(model, make_clip(4), "step", some)) for some in (state, state + torch.nan)]
    scheduler.start()
    assert futures[0].result(WAIT_SECONDS).state.isfinite().all()
    with pytest.raises(ArithmeticError, match="NaN"):
        futures[1].result(WAIT_SECONDS)
    assert batches.sizes == [2]


def test_closing_fails_what_waits_and_refuses_what_comes(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1)
    waits = scheduler.submit(Work(model, make_clip(8)))
    scheduler.close()
    with pytest.raises(NotReady, match="stopping"):
        waits.result(WAIT_SECONDS)
    with pytest.raises(NotReady, match="stopping"):
        scheduler.submit(Work(model, make_clip(8)))
    assert batches.sizes == []


def test_closing_lets_what_runs_end_and_leaves_no_thread(model, make_scheduler):
    scheduler = make_scheduler(num_threads=2)
    scheduler.start()
    running = [thread for thread in threading.enumerate() if thread.name.startswith("inference-")]
    assert len(running) == 2
    futures = [scheduler.submit(Work(model, make_clip(32, seed))) for seed in range(8)]
    futures[0].result(WAIT_SECONDS)
    scheduler.close()
    assert all(future.done() for future in futures)
    assert not any(thread.is_alive() for thread in running)


def test_warming_up_runs_both_methods_at_the_models_own_size(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1)
    scheduler.start()
    scheduler.warm_up([model], step_length=12)
    assert batches.methods == {("tiny", "1", "forward"), ("tiny", "1", "step")}
    assert batches.sizes == [1] * 2 * warm_up.RUNS
    assert batches.num_frames == (model.manifest.input.clip_length + 12) * warm_up.RUNS


def test_buckets():
    assert [bucket(length) for length in range(10)] == [1, 1, 2, 3, 4, 6, 6, 8, 8, 12]
    assert sorted({bucket(length) for length in range(1, 97)}) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]
    for length in range(1, 1025):
        assert length <= bucket(length) < 1.5 * length
        assert bucket(bucket(length)) == bucket(length)


@pytest.fixture(scope="module")
def cost() -> tuple[float, int]:
    """Of many clips, to a process of its own: MB it grew, threads that are not Python's."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("reads Linux's count of pages and threads")
    run = subprocess.run(
        [sys.executable, "-m", "tests.models.varied_lengths"],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_"))},
        capture_output=True,
        text=True,
        timeout=110,
        check=True,
    )
    megabytes, threads = run.stdout.split()
    return float(megabytes), int(threads)


def test_memory_does_not_grow_with_the_number_of_lengths(cost: tuple[float, int]):
    """2.4 MB in each of four runs, against 32.7 MB in each of three with every length a shape of its own."""
    assert cost[0] < 10  # MB


def test_an_inference_thread_has_one_core(cost: tuple[float, int]):
    """OpenMP would start as many as there are other cores."""
    assert cost[1] == 0


def test_live_work_goes_before_files(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    order: list[str] = []

    def submit(name: str, length: int, *, live: bool) -> None:
        future = scheduler.submit(Work(model, make_clip(length), live=live))
        future.add_done_callback(lambda _: order.append(name))

    submit("file", 32, live=False)
    submit("live", 1, live=True)
    submit("other live", 2, live=True)
    scheduler.start()
    scheduler.submit(Work(model, make_clip(48))).result(WAIT_SECONDS)
    assert order == ["live", "other live", "file"]


def test_a_file_gets_its_turn_while_live_work_never_ends(model, make_scheduler):
    scheduler = make_scheduler(num_threads=1)
    order: list[str] = []
    lengths = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]  # each a batch of its own
    assert len(lengths) > LIVE_BATCHES_IN_A_ROW + 1
    futures = [scheduler.submit(Work(model, make_clip(96))), scheduler.submit(Work(model, make_clip(128)))]
    futures += [scheduler.submit(Work(model, make_clip(length), live=True)) for length in lengths]
    for name, future in zip(["file", "file", *["live"] * len(lengths)], futures, strict=True):
        future.add_done_callback(lambda _, name=name: order.append(name))
    scheduler.start()
    for future in futures:
        future.result(WAIT_SECONDS)
    assert order.index("file") == LIVE_BATCHES_IN_A_ROW
    assert order[-1] == "file"


def test_a_live_batch_takes_files_along_where_there_is_room(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1, max_batch_size=4)
    order: list[bool] = []
    for live in (False, False, False, True, True):
        future = scheduler.submit(Work(model, make_clip(1), live=live))
        future.add_done_callback(lambda _, live=live: order.append(live))
    scheduler.start()
    future.result(WAIT_SECONDS)
    scheduler.submit(Work(model, make_clip(2))).result(WAIT_SECONDS)
    assert batches.sizes == [4, 1, 1]
    assert order == [True, True, False, False, False]


def test_a_batch_can_wait_for_more(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1, max_batch_size=2, batch_wait_seconds=60.0)
    scheduler.start()
    first = scheduler.submit(Work(model, make_clip(1)))
    second = scheduler.submit(Work(model, make_clip(1, seed=1)))
    assert first.result(WAIT_SECONDS / 2).infer_seconds > 0  # full: it waits no longer
    second.result(WAIT_SECONDS)
    assert batches.sizes == [2]


def test_a_batch_waits_no_longer_than_it_may(model, make_scheduler, batches):
    scheduler = make_scheduler(num_threads=1, batch_wait_seconds=0.05)
    scheduler.start()
    assert scheduler.submit(Work(model, make_clip(1))).result(WAIT_SECONDS).queue_seconds >= 0.05
    assert batches.sizes == [1]


def test_forecasts_are_decoded_from_states_that_share_a_batch(make_scheduler, batches, tmp_path):
    model = load_version(write_forecaster(tmp_path))
    scheduler = make_scheduler(num_threads=1)
    states = [
        model.module.step(make_clip(3, seed)[None], torch.tensor([3]), model.module.initial_state(1, 24, 32))[1]
        for seed in range(2)
    ]
    futures = [scheduler.submit(Work(model, make_clip(0), "decode", state[0], horizon=2)) for state in states]
    scheduler.start()
    for state, future in zip(states, futures, strict=True):
        (forecast,) = future.result(WAIT_SECONDS).outputs
        torch.testing.assert_close(forecast, model.module.decode(state, 2, 24, 32)[0], rtol=0, atol=TOLERANCE)
    assert batches.sizes == [2]
