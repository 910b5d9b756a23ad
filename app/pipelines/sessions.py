"""All sessions: streams whose client is connected, or was a moment ago."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from app.errors import MalformedRequest, NotReady, Overloaded, UnknownSession
from app.media.live import RETRY_AFTER_SECONDS, LiveDecoders
from app.models.batching import Scheduler
from app.models.store import ServedModel
from app.models.tokens import StreamPoint
from app.pipelines.calls import ModelCalls
from app.pipelines.picture_jobs import PictureDecoder
from app.pipelines.segments import RuleOverrides
from app.pipelines.session import Session, SessionOptions
from app.pipelines.sources import ArrivingSource, PictureSource
from app.pipelines.stream import Stream


class Sessions:
    """All sessions of the service."""

    def __init__(
        self,
        scheduler: Scheduler,
        pictures: PictureDecoder,
        live: LiveDecoders,
        overrides: RuleOverrides,
        max_sessions: int,
        max_seconds: float,
        resume_seconds: float,
        decode_seconds: float,
    ) -> None:
        """`resume_seconds`: how long a session waits for a client that has gone. `decode_seconds`: for a picture."""
        self.max_sessions = max_sessions
        self.max_seconds = max_seconds
        self.resume_seconds = resume_seconds
        self.is_stopping = asyncio.Event()
        self._num_clients = 0
        self._no_clients = asyncio.Event()
        self._no_clients.set()
        self._scheduler = scheduler
        self._pictures = pictures
        self._live = live
        self._overrides = overrides
        self._decode_seconds = decode_seconds
        self._sessions: dict[str, Session] = {}
        self._ended: dict[str, Session] = {}  # all is told, perhaps to nobody: they hold no place; the oldest first
        self._num_opening = 0
        self._expiring: set[asyncio.Task[None]] = set()

    @property
    def num_sessions(self) -> int:
        return len(self._sessions) + self._num_opening

    @property
    def num_live_decoders(self) -> int:
        return self._live.num_decoders

    def stream(self, model: ServedModel, point: StreamPoint | None, *, live: bool = True) -> Stream:
        """A stream of `model` that goes on from `point`; raises MalformedRequest for a model that cannot step.

        `live`: somebody is watching.
        """
        return Stream(ModelCalls(model, self._scheduler, live=live), self._overrides, point)

    async def open(self, model: ServedModel, point: StreamPoint | None, options: SessionOptions) -> Session:
        """A new session; `detach`, `end` or `discard` must follow.

        Raises Overloaded over `max_sessions` and where there is no decoder, NotReady when the service is stopping.
        """
        if self.is_stopping.is_set():
            raise NotReady
        if self.num_sessions >= self.max_sessions:
            raise self._full()
        if options.kind == "pictures" and model.manifest.input.media == "audio":
            raise MalformedRequest(f"Model {model.manifest.name} listens: send it encoded chunks, not pictures.")
        stream = self.stream(model, point)
        self._num_opening += 1
        try:
            source: PictureSource | ArrivingSource
            if options.kind == "encoded":
                source = await ArrivingSource.open(stream, self._live, self.max_seconds)
            else:
                source = PictureSource(
                    stream,
                    self._pictures,
                    options.backpressure,
                    options.max_in_flight,
                    self._decode_seconds,
                    options.pace,
                )
        finally:
            self._num_opening -= 1
        session = Session(secrets.token_urlsafe(16), source, options)
        self._sessions[session.id] = session
        return session

    def check_room(self) -> None:
        """Raises Overloaded where over twice as many clients are connected as may have sessions: some have none."""
        if self._num_clients > 2 * self.max_sessions:
            raise self._full()

    def find(self, session_id: str) -> Session:
        """The session to come back to; raises UnknownSession."""
        session = self._kept(session_id)
        if session is None:
            raise UnknownSession(
                f"There is no such session; one waits {self.resume_seconds:g} s for its client. Go on from a state."
            )
        return session

    def detach(self, session: Session, attachment: int) -> None:
        """The client has gone without a word; the session waits for it, then ends."""
        if session.attachment == attachment:
            task = asyncio.create_task(self._expire(session.id, attachment))
            self._expiring.add(task)
            task.add_done_callback(self._expiring.discard)

    async def end(self, session: Session, attachment: int) -> None:
        """The client has been sent the last word. The session gives up its place, and waits as if the client had gone:
        the connection may have broken before it came there. Of more than `max_sessions` the oldest is discarded."""
        self._sessions.pop(session.id, None)
        self._ended.pop(session.id, None)
        self._ended[session.id] = session
        self.detach(session, attachment)
        if len(self._ended) > self.max_sessions:
            await self.discard(next(iter(self._ended.values())))

    async def discard(self, session: Session) -> None:
        """The session is over."""
        known = [kept.pop(session.id, None) for kept in (self._sessions, self._ended)]
        if any(known):
            await session.close()

    @contextmanager
    def client(self) -> Iterator[None]:
        """While somebody is connected, for `stop` to wait for."""
        self._num_clients += 1
        self._no_clients.clear()
        try:
            yield
        finally:
            self._num_clients -= 1
            if not self._num_clients:
                self._no_clients.set()

    async def stop(self, goodbye_seconds: float) -> None:
        """Has every client told where its stream stands; waits up to `goodbye_seconds` for that."""
        self.is_stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(goodbye_seconds):
                await self._no_clients.wait()

    async def close(self) -> None:
        """Ends all sessions."""
        self.is_stopping.set()
        for task in self._expiring:
            task.cancel()
        for session in [*self._sessions.values(), *self._ended.values()]:
            await self.discard(session)

    def _full(self) -> Overloaded:
        wait = RETRY_AFTER_SECONDS
        return Overloaded(f"All {self.max_sessions} sessions are taken; come back in {wait} s.", wait)

    async def _expire(self, session_id: str, attachment: int) -> None:
        """By its id: a session that was discarded before its time takes no memory until then."""
        await asyncio.sleep(self.resume_seconds)
        session = self._kept(session_id)
        if session is not None and session.attachment == attachment:
            await self.discard(session)

    def _kept(self, session_id: str) -> Session | None:
        return self._sessions.get(session_id) or self._ended.get(session_id)
