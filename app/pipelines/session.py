"""A session: one stream, what feeds it, and what it answered lately, for a client that may be cut off."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from app.errors import ServiceError, UnknownSession
from app.models.tokens import StreamPoint
from app.pipelines.readings import StreamEnd
from app.pipelines.sources import ArrivingSource, Backpressure, Pace, PictureSource, Taken
from app.pipelines.stream import Stream, StreamStep

MAX_KEPT_EVENTS = 256
"""Answers that a session keeps for a client that comes back; without acknowledgement the oldest go first."""
MAX_UNSENT_EVENTS = 64  # then the session waits for its client

Kind = Literal["pictures", "encoded"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Stepped:
    """A step was taken."""

    step: StreamStep
    picture: int | None
    """The number of the picture it was taken over."""
    received: float | None
    """When that came, by the event loop's clock."""
    num_dropped: int
    """Pictures dropped so far."""
    point: StreamPoint | None
    """Where the stream stands after it, where that is known: after the last step of a chunk. Gone once it is sent."""
    is_new: bool = True
    """It has not been sent to any client."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A picture was passed over."""

    picture: int | None
    error: ServiceError


@dataclass(frozen=True, slots=True)
class Ended:
    """Everything received was judged or, with an error, the stream cannot go on."""

    end: StreamEnd | None
    error: ServiceError | None
    point: StreamPoint | None
    """To go on from, with what may follow after all."""


Event = Stepped | Refused | Ended


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What the client asked for."""

    kind: Kind = "pictures"
    backpressure: Backpressure = "block"
    max_in_flight: int = 4
    pace: Pace = "each"


class Session:
    """One stream with what feeds it, what it answered lately, and at most one client."""

    def __init__(self, session_id: str, source: PictureSource | ArrivingSource, options: SessionOptions) -> None:
        self.id = session_id
        self.source = source
        self.options = options
        self.started = asyncio.get_running_loop().time()
        self.attachment = 0
        """Counts the clients it has had; a client whose number is another's has been replaced."""
        self._events: deque[Event] = deque()
        self._num_sent = 0  # of `_events`, to the present client
        self._began_after = self.stream.sequence  # the step that it goes on from, from a state or after a rewind
        self._last_kept = self._began_after  # the last step that is not in `_events` any more
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()  # held while a chunk is stepped over
        self._failure: Exception | None = None  # what broke the session
        self._worker = asyncio.create_task(self._work())
        self._feeder: asyncio.Task[None] | None = None  # takes what the present client sends

    @property
    def stream(self) -> Stream:
        return self.source.stream

    async def attach(self, acknowledged: int | None = None) -> int:
        """Makes the caller the session's client, in place of any other; gives back its number.

        Nothing more is taken from the client before, not even what it had already sent: `source.num_received` counts.
        `acknowledged`: the last step that the caller knows of; later ones are sent again. None: it knows of none.
        Raises UnknownSession where those steps are no longer kept.
        """
        known = self._began_after if acknowledged is None else acknowledged
        if known < self._last_kept:
            raise UnknownSession(f"Answers up to step {self._last_kept} are no longer kept; go on from a state.")
        if acknowledged is not None:
            self.acknowledge(acknowledged)
        self._num_sent = 0
        self.attachment += 1
        attachment, feeder = self.attachment, self._feeder
        if feeder is not None:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
        await self.wake()
        return attachment

    def feed_by(self, feeder: "asyncio.Task[None]", attachment: int) -> None:
        """From now on `feeder` takes what the client `attachment` sends, until it is cancelled for another client."""
        if attachment == self.attachment:
            self._feeder = feeder
            feeder.add_done_callback(self._forget_feeder)
        else:
            feeder.cancel()

    def acknowledge(self, sequence: int) -> None:
        """The client has all answers up to the step `sequence`, so they need not be kept."""
        known = [
            number
            for number, event in enumerate(self._events, 1)
            if isinstance(event, Stepped) and event.step.sequence <= sequence
        ]
        for _ in range(known[-1] if known else 0):
            self._forget_first()

    async def next_event(self, attachment: int) -> Event | None:
        """The next event for the client `attachment`; None once another has taken its place.

        Raises whatever broke the session.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._num_sent < len(self._events) or self._failure or attachment != self.attachment
            )
            if attachment != self.attachment:
                return None
            if self._failure is not None and self._num_sent == len(self._events):
                raise self._failure
            return self._events[self._num_sent]

    async def sent(self, event: Event, attachment: int) -> None:
        """The client has been sent `event`."""
        async with self._changed:
            if attachment != self.attachment:
                return
            # While it was being sent the client may have rewound, or acknowledged it.
            if self._num_sent < len(self._events) and self._events[self._num_sent] is event:
                self._num_sent += 1
            if isinstance(event, Stepped):
                event.point = None  # kilobytes, for each of many
                event.is_new = False
            while self._num_sent > MAX_KEPT_EVENTS:
                self._forget_first()
            self._changed.notify_all()

    async def rewind(self, stream: Stream) -> None:
        """Goes on with `stream`, once the chunk at work is done; what waits and what was answered is dropped."""
        async with self._turn, self._changed:
            await self.source.rewind(stream)
            self._events.clear()
            self._num_sent = 0
            self._began_after = self._last_kept = stream.sequence
            if self._worker.done() and not (self._worker.cancelled() or self._failure):  # the end is dropped, too
                self._worker = asyncio.create_task(self._work())
            self._changed.notify_all()

    async def point(self) -> StreamPoint | None:
        """Where the stream stands, between two chunks."""
        async with self._turn:
            return self.stream.point()

    async def wake(self) -> None:
        """Has a client notice that it has been replaced, or that the session is broken."""
        async with self._changed:
            self._changed.notify_all()

    async def stop(self, error: ServiceError) -> None:
        """Takes no more input; the chunk at work is finished and answered first, then `error` is the last event."""
        async with self._turn:
            await self._end_work()
            await self.source.close()
            async with self._changed:
                self._events.append(Ended(None, error.with_traceback(None), self.stream.point()))
                self._changed.notify_all()

    async def close(self) -> None:
        await self._end_work()
        await self.source.close()
        self.attachment += 1
        await self.wake()

    async def _end_work(self) -> None:
        self._worker.cancel()
        await asyncio.wait({self._worker})
        with suppress(asyncio.CancelledError):
            self._worker.result()  # else the task keeps the traceback, and with it the pictures it was at

    def _forget_feeder(self, feeder: "asyncio.Task[None]") -> None:
        """Its traceback would keep the connection, and what was read from it, for as long as the session is kept."""
        if self._feeder is feeder:
            self._feeder = None

    def _forget_first(self) -> None:
        first = self._events.popleft()
        self._num_sent = max(0, self._num_sent - 1)
        if isinstance(first, Stepped):
            self._last_kept = first.step.sequence

    async def _work(self) -> None:
        try:
            error = await self._step_to_the_end()
            async with self._turn:
                await self._put(await self._end(error))
        except Exception as failure:
            logger.exception("a session broke")  # here: its client may never come back to be told
            self._failure = failure
            await self.wake()

    async def _step_to_the_end(self) -> ServiceError | None:
        """Steps over all that comes; gives back why no more will, unless all has come."""
        try:
            while (taken := await self.source.take()) is not None:
                async with self._turn:
                    if taken.stream is self.stream:
                        await self._put(await self._step(taken))
        except ServiceError as error:
            return error
        return None

    async def _end(self, error: ServiceError | None) -> list[Event]:
        """The last events: what is left to step over, and the end, for `error` if there is one."""
        point, steps, end = self.stream.point(), [], None
        if error is None:
            steps = await self.stream.step_rest()
            end = await self.stream.finish(self.source.end_seconds)
        await self.source.close()  # the next session may need its decoder before the client has taken the answers
        return [*(Stepped(step, None, None, self.source.num_dropped, None) for step in steps), Ended(end, error, point)]

    async def _step(self, taken: Taken) -> list[Event]:
        refused = [Refused(number, error) for number, error in taken.refused]
        steps: list[StreamStep] = []
        if taken.frames is not None and taken.times is not None:
            steps = await self.stream.step_frames(taken.frames, taken.times)
        elif taken.waveform is not None:
            steps = await self.stream.step_sound(taken.waveform)
        dropped = self.source.num_dropped
        unknown = (None,) * len(steps)
        pictures, received = taken.pictures or unknown, taken.received or unknown
        stepped = [
            Stepped(step, picture, at, dropped, None)
            for step, picture, at in zip(steps, pictures, received, strict=True)
        ]
        if stepped:
            stepped[-1].point = self.stream.point()
        return [*refused, *stepped]

    async def _put(self, events: list[Event]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._events) - self._num_sent < MAX_UNSENT_EVENTS)
            self._events.extend(events)
            self._changed.notify_all()
