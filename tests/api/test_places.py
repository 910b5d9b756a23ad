"""Whom there is room for, at the rate measured."""

import asyncio
import time

import pytest
from starlette.types import Message

from app.api.body import Body, BodyLimits
from app.api.observe import RequestRecord
from app.api.places import Places
from app.errors import NotReady, Overloaded, TimeLimit
from app.telemetry import Telemetry


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def make_places(clock: Clock, **limits: float) -> Places:
    numbers = {"max_requests": 4, "max_uploads": 3, "max_spool_bytes": 100, "max_wait_seconds": 5.0, "num_workers": 2}
    return Places(Telemetry(), **{**numbers, **limits}, clock=clock)  # type: ignore[arg-type]


def answer(places: Places, clock: Clock, seconds: float) -> None:
    places.take(0.0)
    clock.seconds += seconds
    places.give_back()


def test_the_rate_is_that_of_all_workers_however_few_are_at_work() -> None:
    clock = Clock()
    places = make_places(clock)
    answer(places, clock, 2.0)
    assert places.seconds_each == 1.0  # two at once would have been answered in these two seconds
    clock.seconds += 1000.0  # with nothing to do, which says nothing
    answer(places, clock, 2.0)
    assert places.seconds_each == 1.0
    for _ in range(3):
        places.take(0.0)
    clock.seconds += 1.0
    places.give_back()
    assert places.seconds_each == pytest.approx(1.0)


def test_places_are_taken_one_by_one_and_retry_after_is_what_is_before() -> None:
    clock = Clock()
    places = make_places(clock)
    answer(places, clock, 2.0)
    for _ in range(4):
        places.check_room()
        places.take(0.0)
    with pytest.raises(Overloaded) as refused:
        places.check_room()
    assert refused.value.retry_after_seconds == 4


def test_uploads_that_were_on_their_way_find_as_many_places_again() -> None:
    places = make_places(Clock())
    for _ in range(4):
        places.take(0.0)
    with pytest.raises(Overloaded):
        places.take(0.0)
    for _ in range(4):
        places.take(60.0)
    with pytest.raises(Overloaded):
        places.take(60.0)
    places.give_back()
    places.take(60.0)


def test_who_would_wait_too_long_is_refused_unless_a_worker_is_free() -> None:
    clock = Clock()
    places = make_places(clock)
    answer(places, clock, 60.0)  # half a minute each
    places.take(0.0)
    places.check_room()
    places.take(0.0)
    with pytest.raises(Overloaded, match="wait would be 60 s, over 5 s; come back in 60 s"):
        places.check_room()


def test_uploads_on_their_way_hold_no_place_but_are_counted() -> None:
    places = make_places(Clock())
    for number in range(3):
        places.check_room()
        places.arriving.add(lambda number=number: None)  # type: ignore[misc]
    with pytest.raises(Overloaded, match="3 uploads are arriving"):
        places.check_room()


def test_disk_space_is_shared_by_all_uploads() -> None:
    places = make_places(Clock())
    places.hold_bytes(100)
    with pytest.raises(Overloaded, match="disk space"):
        places.hold_bytes(1)
    places.hold_bytes(-101)
    assert places.spool_bytes == 0


def test_nobody_is_let_in_after_the_end() -> None:
    places = make_places(Clock())
    places.stop()
    with pytest.raises(NotReady):
        places.check_room()


async def receive_nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize(("rate", "least"), [(25, 3), (0, 1)])
def test_an_upload_that_sends_too_little_is_told_how_much_it_must_send(rate: int, least: int) -> None:
    places = make_places(Clock())
    body = Body(receive_nothing, places, BodyLimits(100, 0.1, rate), RequestRecord(""))
    places.arriving.add(body.end)
    with pytest.raises(TimeLimit, match=f"^0 bytes came in 0.1 s; an upload must send {least} in that time"):
        asyncio.run(body.begin())


def test_all_uploads_end_however_late_in_its_patience_one_is() -> None:
    """The service stops in the same turn of the loop in which their patience ends."""
    places = make_places(Clock())

    async def stop() -> list[Message | BaseException]:
        bodies = [Body(receive_nothing, places, BodyLimits(100, 0.1, 10), RequestRecord("")) for _ in range(3)]
        places.arriving |= {body.end for body in bodies}
        receiving = [asyncio.create_task(body.receive()) for body in bodies]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.15, places.end_uploads)
        asyncio.get_running_loop().call_soon(time.sleep, 0.2)  # all is due by then
        return await asyncio.gather(*receiving, return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(stop())] == [NotReady] * 3
