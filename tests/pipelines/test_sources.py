"""Pictures of one stream that wait to be judged."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from app.errors import MalformedRequest
from app.media.sandbox import DecoderPool
from app.models.batching import Scheduler
from app.models.store import ServedModel, load_version
from app.pipelines.calls import ModelCalls
from app.pipelines.picture_jobs import PictureDecoder
from app.pipelines.segments import RuleOverrides
from app.pipelines.sources import MAX_SECONDS, PictureSource
from app.pipelines.stream import Stream
from tests.media_maker import moving_frames
from tests.streaming import picture
from tests.tiny_models import write_version

PICTURE = picture(moving_frames(1)[0])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    """Of four steps a second."""
    return load_version(write_version(tmp_path_factory.mktemp("store"), sampling="rate"))


@asynccontextmanager
async def running_source(model: ServedModel) -> AsyncIterator[PictureSource]:
    """At the model's pace; who sends waits while one picture waits."""
    pool = DecoderPool(1)
    await pool.start()
    try:
        stream = Stream(ModelCalls(model, Scheduler(1)), RuleOverrides())
        yield PictureSource(stream, PictureDecoder(pool), "block", 1, 60.0, "model")
    finally:
        await pool.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_a_picture_that_is_cut_off_while_it_waits_for_room_can_be_sent_again(model: ServedModel) -> None:
    async def test() -> None:
        async with running_source(model) as source:
            await source.push(0.0, PICTURE)
            second = asyncio.create_task(source.push(0.25, PICTURE))
            await asyncio.sleep(0.01)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert source.num_received == 1
            taken = [await source.take()]
            await source.push(0.25, PICTURE)
            taken.append(await source.take())
        assert [one.pictures for one in taken if one is not None] == [(0,), (1,)]
        assert source.num_passed == 0

    run(test)


@pytest.mark.parametrize("seconds", [1e308, 2 * MAX_SECONDS])
def test_a_time_that_steps_cannot_be_counted_to_is_refused(model: ServedModel, seconds: float) -> None:
    async def test() -> None:
        async with running_source(model) as source:
            await source.push(0.0, PICTURE)
            await source.take()
            with pytest.raises(MalformedRequest, match=r"the limit is 1e\+12 s"):
                await source.push(seconds, PICTURE)
            await source.push(MAX_SECONDS, PICTURE)
            assert (source.num_received, source.num_passed) == (2, 0)

    run(test)
