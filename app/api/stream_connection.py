"""One client of /stream: takes its messages, answers them, and ends as both sides would have it."""

import asyncio
from typing import Any

from fastapi import WebSocket
from prometheus_client import Counter, Histogram
from pydantic import ValidationError

from app.api.problems import complaint
from app.api.query import ONCE, repeated
from app.api.service import StreamService
from app.api.stream_messages import Acknowledge, AskState, End, Rewind, SocketQuery, Start, decode_state, encode_state
from app.api.stream_schemas import Closing, Done, Problem, Rewound, State, Step, Welcome
from app.api.stream_socket import FINAL, NORMAL, TAKEN_OVER, ClientLeftError, StreamSocket, close_code, split_picture
from app.errors import MalformedRequest, NotReady, Overloaded, ServiceError, StateTooLarge, TimeLimit
from app.models.tokens import StreamPoint
from app.pipelines.session import Ended, Event, Refused, Session, SessionOptions, Stepped
from app.pipelines.sources import ArrivingSource, PictureSource
from app.pipelines.starting import start_of
from app.telemetry import Telemetry

GOODBYE_SECONDS = 5.0  # for a client to take what is left to say


class Connection:
    """One client and the session it opened or came back to."""

    def __init__(self, websocket: WebSocket, service: StreamService, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.service = service
        self.socket = StreamSocket(websocket, service.idle_seconds)
        self.query = SocketQuery()
        self.session: Session | None = None
        self.attachment = 0
        self.num_dropped = 0  # pictures that are in the metrics already
        self._counters: tuple[Counter, Histogram] | None = None  # of its model: finding them takes as long as counting
        self._websocket = websocket

    async def run(self) -> None:
        """Serves the client until it has all it asked for, leaves, or has to go. Raises ClientLeftError."""
        try:
            self.service.sessions.check_room()
            message = await self.socket.receive()
            self.query = _query(self._websocket)
            self.socket.binary_states = self.query.state == "binary"
            if not isinstance(message, Start):
                raise MalformedRequest("The first message must have the type start.")
            session = await self._open(message)
        except ServiceError as error:
            await self._close(error)
            return
        await self.socket.send(Welcome.of(session, self.service))
        await self._serve(session)

    def summary(self) -> dict[str, object]:
        """For the log."""
        session = self.session
        if session is None:
            return {}
        manifest = session.stream.model.manifest
        return {
            "models": (f"{manifest.name}@{manifest.version}",),
            "sequence": session.stream.sequence,
            "received": session.source.num_received,
            "dropped": session.source.num_dropped,
        }

    async def discard(self) -> None:
        """The session is broken."""
        if self.session is not None:
            await self.service.sessions.discard(self.session)

    async def leave(self) -> None:
        """The client has gone: for good if it closed in good order; else its session waits for it."""
        code = self.socket.close_code = await self.socket.how_client_left()
        if self.session is not None and self.session.attachment == self.attachment:
            if code in FINAL:
                await self.service.sessions.discard(self.session)
            else:
                self.service.sessions.detach(self.session, self.attachment)

    async def _open(self, start: Start) -> Session:
        sessions = self.service.sessions
        if start.session is not None:
            session = sessions.find(start.session)
            self.attachment = await session.attach(start.acknowledged)
            self.num_dropped = session.source.num_dropped
        else:
            token = decode_state(start.state) if start.state is not None else None
            model, point = start_of(
                self.service.store, self.service.tokens, self.query.model, self.query.version, token
            )
            session = await sessions.open(
                model, point, SessionOptions(start.kind, start.backpressure, start.max_in_flight, start.pace)
            )
            self.attachment = await session.attach()
        self.session = session
        return session

    async def _serve(self, session: Session) -> None:
        """Takes messages and answers them side by side. Whatever ends that, what is known by then is still answered."""
        sender = asyncio.create_task(self._send_events(session))
        receiver = asyncio.create_task(self._receive_messages(session))
        session.feed_by(receiver, self.attachment)
        stopping = asyncio.create_task(self.service.sessions.is_stopping.wait())
        left_seconds = session.started + self.service.total_seconds - asyncio.get_running_loop().time()
        tasks: set[asyncio.Task[Any]] = {sender, receiver, stopping}
        try:
            await asyncio.wait(tasks, timeout=left_seconds, return_when=asyncio.FIRST_COMPLETED)
            if session.attachment != self.attachment:
                await self._yield_to_next(sender)
            elif not (sender.done() or self.socket.is_closed):
                await self._stop(session, self._why(receiver, stopping), sender)
            await sender
        except ServiceError as error:
            await self.service.sessions.discard(session)
            await self._close(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop(self, session: Session, error: ServiceError, sender: "asyncio.Task[None]") -> None:
        """Ends the session for `error` once all is answered. Raises ClientLeftError for a client that takes nothing."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await session.stop(error)
                await asyncio.wait({sender})
        except TimeoutError as late:
            raise ClientLeftError from late

    async def _yield_to_next(self, sender: "asyncio.Task[None]") -> None:
        """Another client has the session: `sender` says so. Raises ClientLeftError for a client that takes nothing."""
        await asyncio.wait({sender}, timeout=GOODBYE_SECONDS)
        if not sender.done():
            raise ClientLeftError

    def _why(self, receiver: "asyncio.Task[None]", stopping: "asyncio.Task[Any]") -> ServiceError:
        """The reason to end the session. Raises ClientLeftError where the only one is that the client has left."""
        if receiver.done():
            error = receiver.exception()
            assert error is not None
            if not isinstance(error, ServiceError):
                raise error
            return error
        receiver.cancel()
        if stopping.done():
            return NotReady()
        return TimeLimit(f"The session has lasted {self.service.total_seconds:g} s, the longest that is allowed.")

    async def _receive_messages(self, session: Session) -> None:
        """Until the client says that there is no more, then until it leaves."""
        while True:
            message = await self.socket.receive()
            match message:
                case bytes():
                    await _push(session.source, message)
                case Acknowledge():
                    session.acknowledge(message.sequence)
                case AskState():
                    await self._send_state(await session.point())
                case Rewind():
                    await self._rewind(session, message)
                case End():
                    self.socket.idle_seconds = None  # now it waits for us
                    await session.source.end()
                case Start():
                    raise MalformedRequest("The session has already been started.")

    async def _send_events(self, session: Session) -> None:
        """Until the session has ended or another client has taken it over."""
        while (event := await session.next_event(self.attachment)) is not None:
            if isinstance(event, Ended):
                await self._send_end(session, event)
                await self.service.sessions.end(session, self.attachment)
                return
            await self._send_event(event)
            await session.sent(event, self.attachment)
        await self.socket.close(TAKEN_OVER, "Another client has taken the session over.")

    async def _send_event(self, event: Event) -> None:
        match event:
            case Stepped():
                message = Step.of(event.step)
                message.picture = event.picture
                message.dropped = event.num_dropped or None
                await self.socket.send_with_state(message, self._issue_wanted(event.point))
                if event.is_new:
                    self._count(event)
            case Refused():
                error = event.error
                await self.socket.send(
                    Problem(picture=event.picture, title=error.title, status=error.status, detail=str(error))
                )

    def _count(self, event: Stepped) -> None:
        if self._counters is None:
            assert self.session is not None
            manifest = self.session.stream.model.manifest
            self._counters = (
                self.telemetry.stream_steps.labels(manifest.name, manifest.version),
                self.telemetry.stream_step_seconds.labels(manifest.name, manifest.version),
            )
        steps, step_seconds = self._counters
        steps.inc()
        if event.received is not None:
            step_seconds.observe(asyncio.get_running_loop().time() - event.received)
        self.telemetry.stream_dropped.inc(max(0, event.num_dropped - self.num_dropped))
        self.num_dropped = event.num_dropped

    async def _send_end(self, session: Session, ended: Ended) -> None:
        if ended.error is not None:
            await self._close(ended.error, ended.point)
            return
        source = session.source
        message = Done.of(session.stream, ended.end, source.num_dropped, source.num_passed)
        await self.socket.send_with_state(message, self._issue_wanted(ended.point))
        await self.socket.close(NORMAL, "")

    async def _send_state(self, point: StreamPoint | None) -> None:
        message = State(sequence=point.sequence if point else 0, seconds=point.seconds if point else 0.0)
        await self.socket.send_with_state(message, self._issue(point))

    async def _rewind(self, session: Session, message: Rewind) -> None:
        model = session.stream.model
        state = self.service.tokens.read(decode_state(message.state))
        state.check_fits(model)
        await session.rewind(self.service.sessions.stream(model, state.point))
        await self.socket.send(
            Rewound(sequence=state.point.sequence, seconds=state.point.seconds, received=session.source.num_received)
        )

    async def _close(self, error: ServiceError, point: StreamPoint | None = None) -> None:
        """Says why, hands out where the stream stands, and closes."""
        code = close_code(error)
        retry = error.retry_after_seconds if isinstance(error, Overloaded) else None
        try:
            token = self._issue(point)
        except StateTooLarge:
            token = None
        await self.socket.send(
            Closing(
                code=code,
                title=error.title,
                detail=str(error),
                retry_after_seconds=retry,
                state=encode_state(token) if token is not None else None,
            )
        )
        await self.socket.close(code, f"Retry-After: {retry}" if retry is not None else str(error))

    def _issue_wanted(self, point: StreamPoint | None) -> bytes | None:
        return self._issue(point) if self.query.state != "false" else None

    def _issue(self, point: StreamPoint | None) -> bytes | None:
        if point is None or self.session is None:
            return None
        return self.service.tokens.issue(self.session.stream.model, point)


async def _push(source: PictureSource | ArrivingSource, message: bytes) -> None:
    if isinstance(source, ArrivingSource):
        await source.push(message)
    else:
        await source.push(*split_picture(message))


def _query(websocket: WebSocket) -> SocketQuery:
    if names := repeated(websocket.query_params, SocketQuery):
        raise MalformedRequest(f"{names[0]}: {ONCE}")
    try:
        return SocketQuery.model_validate(dict(websocket.query_params))
    except ValidationError as error:
        raise MalformedRequest(complaint(error)) from error
