"""What streams cost: frames per second by number of sessions and against sliding windows, how many keep up, memory.

python -m bench.streams [--model motion] [--seconds 5] [--rate 8] [--picture 160x120]

All clients run in this process, on the same cores as the service: compare the figures of one run with each other.
"""

import argparse
import asyncio
import io
import json
import statistics
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench.processes import cpu_seconds
from bench.service import Service, running_service

SESSIONS = (1, 4, 16, 64)
WINDOW = 16  # frames that are judged anew for each frame if there is no state
KEEPS_UP_SECONDS = 0.125
PORT = 8124


def make_pictures(width: int, height: int, count: int = 32) -> list[bytes]:
    """JPEGs of a bright square that goes round on a grey ground with noise."""
    random = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        frame = random.integers(90, 130, (height, width, 3), dtype=np.uint8)
        top = round(height * 0.35 * (1 + np.sin(2 * np.pi * number / count)))
        left = round(width * 0.35 * (1 + np.cos(2 * np.pi * number / count)))
        frame[top : top + height // 4, left : left + width // 4] = (230, 200, 60)
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=85)
        pictures.append(buffer.getvalue())
    return pictures


class Client:
    """One session."""

    def __init__(self, socket: ClientConnection, pictures: list[bytes], rate: float) -> None:
        self.socket, self.pictures, self.rate = socket, pictures, rate
        self.num_sent = 0
        self.latencies: list[float] = []
        self.sent_at: list[float] = []

    async def start(self, max_in_flight: int) -> None:
        message = {"type": "start", "backpressure": "block", "max_in_flight": max_in_flight}
        await self.socket.send(json.dumps(message))
        answer = json.loads(await self.socket.recv())
        assert answer["type"] == "welcome", answer

    async def show(self) -> None:
        data = self.pictures[self.num_sent % len(self.pictures)]
        self.sent_at.append(time.perf_counter())
        await self.socket.send(struct.pack("<d", self.num_sent / self.rate) + data)
        self.num_sent += 1

    async def hear(self) -> bool:
        """Whether another step came."""
        answer = json.loads(await self.socket.recv())
        if answer["type"] == "done":
            return False
        assert answer["type"] == "step", answer
        self.latencies.append(time.perf_counter() - self.sent_at[answer["picture"]])
        return True

    async def as_fast_as_it_goes(self, until: float, ahead: int) -> None:
        """Keeps `ahead` pictures in flight."""
        for _ in range(ahead):
            await self.show()
        while time.perf_counter() < until:
            await self.hear()
            await self.show()
        for _ in range(ahead):
            await self.hear()

    async def as_a_camera(self, until: float, delay: float) -> None:
        """Sends a picture every 1 / rate seconds, however late the answers are."""
        listener = asyncio.create_task(self._listen())
        due = time.perf_counter() + delay
        while (now := time.perf_counter()) < until:
            await asyncio.sleep(max(0.0, due - now))
            await self.show()
            due += 1 / self.rate
        await self.socket.send(json.dumps({"type": "end"}))
        await listener

    async def _listen(self) -> None:
        with suppress(ConnectionClosed):
            while await self.hear():
                pass


async def with_sessions(
    count: int, model: str, pictures: list[bytes], rate: float, work: Callable[[list[Client]], Awaitable[float]]
) -> float:
    """What `work` makes of `count` sessions."""
    url = f"ws://127.0.0.1:{PORT}/stream?model={model}"
    sockets = await asyncio.gather(*(connect(url, max_queue=None) for _ in range(count)))
    clients = [Client(socket, pictures, rate) for socket in sockets]
    try:
        for client in clients:
            await client.start(max_in_flight=4)
        return await work(clients)
    finally:
        for socket in sockets:
            await socket.close()


async def frames_per_second(clients: list[Client], seconds: float, ahead: int) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(client.as_fast_as_it_goes(began + seconds, ahead) for client in clients))
    return sum(client.num_sent for client in clients) / (time.perf_counter() - began)


async def slowest_percent(clients: list[Client], seconds: float) -> float:
    """The 99th percentile of seconds from a picture to its answer, without the first second."""
    until = time.perf_counter() + seconds
    spread = 1 / (clients[0].rate * len(clients))
    await asyncio.gather(*(client.as_a_camera(until, spread * at) for at, client in enumerate(clients)))
    latencies = [seconds for client in clients for seconds in client.latencies[round(client.rate) :]]
    return statistics.quantiles(latencies, n=100)[98]


def windows_per_second(client: httpx.Client, model: str, pictures: list[bytes], seconds: float) -> float:
    """Frames a second if each is judged anew with the 15 before it, as one does without a state."""
    began, number = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        window = [("picture", pictures[(number + at) % len(pictures)]) for at in range(WINDOW)]
        client.post(f"/stream/steps?model={model}", files=window).raise_for_status()
        number += 1
    return number / (time.perf_counter() - began)


def resident_bytes(service: Service) -> int:
    return int(Path(f"/proc/{service.pid}/statm").read_text().split()[1]) * 4096


async def memory_per_session(service: Service, model: str, pictures: list[bytes], rate: float) -> float:
    """Bytes that each of 64 sessions adds to the server after ten frames."""

    async def one(client: Client) -> None:
        for _ in range(10):
            await client.show()
            await client.hear()

    async def grow(clients: list[Client]) -> float:
        before = resident_bytes(service)
        for client in clients:
            await one(client)
        return (resident_bytes(service) - before) / len(clients)

    for _ in range(3):  # one-time allocations happen here
        await with_sessions(8, model, pictures, rate, grow)
    return await with_sessions(64, model, pictures, rate, grow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="motion")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=float, default=8, help="pictures a second of a camera")
    parser.add_argument("--picture", default="160x120")
    options = parser.parse_args()
    width, height = (int(side) for side in options.picture.split("x"))
    pictures = make_pictures(width, height)
    model, seconds, rate = options.model, options.seconds, options.rate
    settings = {"models": model, "max_sessions": 256}
    with running_service(PORT, **settings) as service:

        def measure(count: int, work: Callable[[list[Client]], Awaitable[float]]) -> float:
            return asyncio.run(with_sessions(count, model, pictures, rate, work))

        def report(what: str, run: Callable[[], float]) -> float:
            before = cpu_seconds(service.pids())
            began = time.perf_counter()
            found = run()
            frames = found * (time.perf_counter() - began)
            spent = cpu_seconds(service.pids()) - before
            print(f"{what:34}{found:7.1f} frames/s, {1000 * spent / frames:5.2f} ms of CPU each")
            return found

        memory = asyncio.run(memory_per_session(service, model, pictures, rate))
        measure(16, lambda clients: frames_per_second(clients, 2, 4))  # shapes seen first
        print(f"{model}, pictures of {options.picture}; memory per session: {memory / 1024:.0f} KiB")
        windows = report(
            f"sliding window of {WINDOW}, no state:",
            lambda: windows_per_second(service.client, model, pictures, seconds),
        )
        alone = report(
            "one session, one at a time:", lambda: measure(1, lambda one: frames_per_second(one, seconds, 1))
        )
        print(f"  {alone / windows:.1f} x a sliding window")
        for count in SESSIONS:
            found = report(
                f"{count} sessions, four ahead:",
                partial(measure, count, lambda clients: frames_per_second(clients, seconds, 4)),
            )
            print(f"  {found / alone:.1f} x one at a time")
        for count in (1, 4, 8, 16, 24, 32, 48, 64, 96, 128):
            slowest = measure(count, lambda clients: slowest_percent(clients, seconds + 1))
            print(f"{count:3} cameras at {rate:g} frames/s: p99 {1000 * slowest:6.1f} ms")
            if slowest > 2 * KEEPS_UP_SECONDS:
                break


if __name__ == "__main__":
    main()
