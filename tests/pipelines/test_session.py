"""What a session does when its client does two things at once."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.errors import InvalidMedia, UnknownSession
from app.pipelines.segments import RuleOverrides
from app.pipelines.session import Ended, Refused, Session, SessionOptions, Stepped
from app.pipelines.sessions import Sessions
from app.pipelines.stream import StreamStep


class NoStream:
    sequence = 0
    seconds = 0.0
    rate = 10.0

    def point(self) -> None:
        return None


class SourceOfNothing:
    num_dropped = 0
    end_seconds = math.inf

    def __init__(self) -> None:
        self.stream: Any = NoStream()

    async def take(self) -> None:
        await asyncio.Event().wait()

    async def rewind(self, stream: Any) -> None:
        self.stream = stream

    async def close(self) -> None: ...


def event(number: int) -> Refused:
    return Refused(number, InvalidMedia("The picture cannot be decoded."))


def step(sequence: int) -> Stepped:
    reading: Any = None
    return Stepped(StreamStep(sequence, sequence / 10, reading), None, None, 0, None)


def with_session(work: Callable[[Session], Awaitable[None]]) -> None:
    async def run() -> None:
        session = Session("one", SourceOfNothing(), SessionOptions())  # type: ignore[arg-type]
        await work(session)
        await session.close()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_rewind_while_an_answer_is_sent_loses_none_of_the_next():
    async def work(session: Session) -> None:
        client = await session.attach()
        await session._put([event(0)])
        old = await session.next_event(client)
        assert old is not None
        await session.rewind(NoStream())  # type: ignore[arg-type]
        await session.sent(old, client)
        new = event(1)
        await session._put([new])
        assert await session.next_event(client) is new

    with_session(work)


def test_an_answer_that_is_acknowledged_while_it_is_sent_takes_no_other_with_it():
    async def work(session: Session) -> None:
        client = await session.attach()
        first, second = event(0), step(1)
        await session._put([first, second])
        assert await session.next_event(client) is first
        session.acknowledge(1)  # and with the step what was refused before it
        await session.sent(first, client)
        third = event(2)
        await session._put([third])
        assert await session.next_event(client) is third

    with_session(work)


def test_nothing_is_taken_of_a_client_once_another_is_in_its_place():
    async def work(session: Session) -> None:
        taken: list[str] = []

        async def feed(name: str) -> None:
            while True:
                taken.append(name)
                await asyncio.sleep(0)

        first = await session.attach()
        old = asyncio.create_task(feed("first"))
        session.feed_by(old, first)
        await asyncio.sleep(0)
        second = await session.attach()
        assert taken
        assert old.cancelled()
        taken.clear()
        late = asyncio.create_task(feed("first"))
        session.feed_by(late, first)  # it had only begun to listen
        await asyncio.sleep(0)
        assert late.cancelled()
        assert not taken
        assert second == session.attachment == first + 1

    with_session(work)


def test_a_rewind_after_the_end_is_told_the_end_again():
    class EndedSource(SourceOfNothing):
        async def take(self) -> None: ...

    class Stream(NoStream):
        async def step_rest(self) -> list[StreamStep]:
            return []

        async def finish(self, end_seconds: float) -> None: ...

    async def work(_: Session) -> None:
        source = EndedSource()
        source.stream = Stream()
        session = Session("two", source, SessionOptions())  # type: ignore[arg-type]
        client = await session.attach()
        first = await session.next_event(client)
        await session.rewind(Stream())  # type: ignore[arg-type]
        again = await asyncio.wait_for(session.next_event(client), 1)
        assert again == first
        assert again is not first
        await session.close()

    with_session(work)


def test_a_rewind_while_the_end_is_made_is_told_the_end_of_what_it_went_back_to():
    class EndedSource(SourceOfNothing):
        async def take(self) -> None: ...

    class Stream(NoStream):
        def __init__(self, end: str) -> None:
            self.end = end
            self.finishing, self.may_finish = asyncio.Event(), asyncio.Event()

        async def step_rest(self) -> list[StreamStep]:
            return []

        async def finish(self, end_seconds: float) -> str:
            self.finishing.set()
            await self.may_finish.wait()
            return self.end

    async def work(_: Session) -> None:
        source, old, new = EndedSource(), Stream("old"), Stream("new")
        source.stream = old
        session = Session("two", source, SessionOptions())  # type: ignore[arg-type]
        client = await session.attach()
        await old.finishing.wait()
        rewind = asyncio.create_task(session.rewind(new))  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        old.may_finish.set()
        new.may_finish.set()
        await rewind
        ended = await session.next_event(client)
        assert isinstance(ended, Ended)
        assert ended.end == "new"
        await session.close()

    with_session(work)


def test_who_waits_for_an_answer_is_told_that_the_session_broke_and_so_is_the_log(caplog):
    class Broken(SourceOfNothing):
        async def take(self) -> None:
            await asyncio.sleep(0.01)  # until somebody waits
            raise ZeroDivisionError

    async def work(_: Session) -> None:
        session = Session("two", Broken(), SessionOptions())  # type: ignore[arg-type]
        client = await session.attach()
        with pytest.raises(ZeroDivisionError):
            await session.next_event(client)
        await session.close()

    with_session(work)
    [record] = caplog.records
    assert (record.message, record.exc_info[0]) == ("a session broke", ZeroDivisionError)


def test_of_sessions_that_have_ended_as_many_are_kept_as_there_may_be():
    nothing: Any = None  # to open one with

    async def work(_: Session) -> None:
        sessions = Sessions(nothing, nothing, nothing, RuleOverrides(), 2, 60.0, 60.0, 60.0)
        ended = [Session(name, SourceOfNothing(), SessionOptions()) for name in "abc"]  # type: ignore[arg-type]
        for session in [ended[0], *ended]:  # the first one told it twice
            await sessions.end(session, await session.attach())
            assert sessions.num_sessions == 0
        assert [sessions.find(session.id) for session in ended[1:]] == ended[1:]
        with pytest.raises(UnknownSession):
            sessions.find("a")
        assert ended[0]._worker.done()
        await sessions.close()
        assert all(session._worker.done() for session in ended)

    with_session(work)
