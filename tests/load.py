"""A client for load: one connection a request, next to no work of its own, and nothing that goes wrong is an error."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.server import RunningServer

_numbers = itertools.count()


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    request_id: str
    began: float
    seconds: float
    status: int = 0
    """0: no whole answer came."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def problem(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@asynccontextmanager
async def connected(server: RunningServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(server: RunningServer, path: str, body: bytes | None = None) -> Outcome:
    """GET `path`, or POST `body` there."""
    request_id, began = f"load-{next(_numbers)}", time.perf_counter()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: here\r\nX-Request-Id: {request_id}\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
    answer: tuple[int, dict[str, str], bytes] = (0, {}, b"")
    with contextlib.suppress(OSError, EOFError):
        async with connected(server) as (reader, writer):
            writer.write(f"{head}{length}Connection: close\r\n\r\n".encode() + (body or b""))
            answer = await read_answer(reader)
    return Outcome(request_id, began, time.perf_counter() - began, *answer)


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Raises EOFError where the connection ends before the answer does."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def keep_asking(ask_once: Callable[[], Any], outcomes: list[Outcome], is_over: Callable[[], bool]) -> None:
    """One client that asks again as soon as it has its answer, until it gets none."""
    while not is_over():
        outcomes.append(await ask_once())
        if not outcomes[-1].status:
            return


async def ask_at_rate(ask_once: Callable[[], Any], rate: float, seconds: float) -> list[Outcome]:
    """As many requests a second whatever becomes of them, as the world asks."""
    loop, tasks = asyncio.get_running_loop(), []
    began = loop.time()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(began + number / rate - loop.time())
        tasks.append(asyncio.create_task(ask_once()))
    return list(await asyncio.gather(*tasks))


def percentile(outcomes: list[Outcome], percent: float) -> float:
    """Seconds within which so many of them were answered."""
    times = sorted(outcome.seconds for outcome in outcomes)
    return times[min(len(times) - 1, int(len(times) * percent / 100))]
