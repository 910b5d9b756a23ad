"""Decoders of what is still being sent: a process for each stream, begun with it and ended with it."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from app.errors import DeadlineExceeded, InvalidMedia, Overloaded
from app.media.request import MediaEvent, MediaLimits, MediaRequest
from app.media.worker_process import WorkerLostError, WorkerProcess

RETRY_AFTER_SECONDS = 5


class LiveDecoder:
    """The decoder process of one stream, and the socket that feeds it."""

    def __init__(self, worker: WorkerProcess, request: MediaRequest, limits: MediaLimits) -> None:
        self._worker = worker
        self._request = request
        self._limits = limits
        self._feed, self._fed = socket.socketpair()
        self._feed.setblocking(False)

    async def feed(self, data: bytes) -> None:
        """Sends more of the stream; waits while the decoder has enough and, after an error, until `close`."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._feed, data)
        except OSError:  # it has ended; `events` says why
            return

    def end(self) -> None:
        """There is no more to feed."""
        try:
            self._feed.shutdown(socket.SHUT_WR)
        except OSError:  # it has ended already
            return

    async def events(self, deadline: float) -> AsyncGenerator[MediaEvent]:
        """MediaInfo, chunks as soon as they are known, and MediaSummary once `end` has been said.

        Raises UnsupportedMedia, InvalidMedia, MediaTooLarge, or DeadlineExceeded at `deadline` of the loop's clock.
        """
        try:
            events = self._worker.run((self._fed.fileno(),), self._request, self._limits, deadline)
            async with aclosing(events):
                async for event in events:
                    yield event
        except TimeoutError as error:
            raise DeadlineExceeded("The stream has lasted longer than is allowed.") from error
        except WorkerLostError as error:
            raise InvalidMedia("The stream cannot be decoded: it crashed the decoder.") from error

    async def close(self, executor: ThreadPoolExecutor) -> None:
        self._worker.kill()
        self._feed.close()
        self._fed.close()
        await self._worker.bury(executor)


class LiveDecoders:
    """The decoders of all streams that are being sent, up to a number of their own: uploads keep their workers."""

    def __init__(self, max_decoders: int, memory_bytes: int, limits: MediaLimits, cpu_seconds: int = 5 * 3600) -> None:
        """`memory_bytes`, `cpu_seconds`: what each may take."""
        self.max_decoders = max_decoders
        self._memory_bytes = memory_bytes
        self._cpu_seconds = cpu_seconds
        self._limits = limits
        self._num_starting = 0
        self._open: set[LiveDecoder] = set()
        self._executor = ThreadPoolExecutor(1, "live-decoders")  # forking blocks; one at a time is safe

    @property
    def num_decoders(self) -> int:
        return len(self._open) + self._num_starting

    async def open(self, request: MediaRequest) -> LiveDecoder:
        """A process of its own for what `request`, whose source is `arriving`, asks for; `release` must follow.

        Raises Overloaded where there are `max_decoders` already.
        """
        if self.num_decoders >= self.max_decoders:
            raise Overloaded(
                f"All {self.max_decoders} decoders of live streams are taken; come back in {RETRY_AFTER_SECONDS} s.",
                RETRY_AFTER_SECONDS,
            )
        self._num_starting += 1
        try:
            loop = asyncio.get_running_loop()
            worker = await asyncio.shield(
                loop.run_in_executor(self._executor, WorkerProcess, self._memory_bytes, self._cpu_seconds)
            )
            decoder = LiveDecoder(worker, request, self._limits)
            self._open.add(decoder)
        finally:
            self._num_starting -= 1
        try:
            await worker.wait_until_ready()
        except BaseException:
            await self.release(decoder)
            raise
        return decoder

    async def release(self, decoder: LiveDecoder) -> None:
        """Ends the process, whatever it is at."""
        if decoder in self._open:
            self._open.remove(decoder)
            await decoder.close(self._executor)

    async def close(self) -> None:
        """Ends all of them."""
        for decoder in list(self._open):
            await self.release(decoder)
        self._executor.shutdown()
