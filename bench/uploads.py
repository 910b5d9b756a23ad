"""How fast an upload comes in: raw and as a form, beside what a bare Starlette application takes of the same bytes.

python -m bench.uploads [--megabytes 64] [--rounds 7]

The bytes are noise, which is refused once it has been looked at; that is part of the time. The bare application counts
them and keeps none.
"""

import argparse
import http.client
import os
import random
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.contenders import file_form, started
from bench.load import median

_BARE_PORT, _OUR_PORT = 8142, 8141
_RAW = "application/octet-stream"


async def _count(request: Request) -> PlainTextResponse:
    num_bytes = 0
    async for piece in request.stream():
        num_bytes += len(piece)
    return PlainTextResponse(str(num_bytes))


bare = Starlette(routes=[Route("/", _count, methods=["GET", "POST"])])


def send(port: int, path: str, body: bytes, content_type: str) -> tuple[int, float]:
    """(status, seconds until the answer was there)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request("POST", path, body, {"Content-Type": content_type})
    response = connection.getresponse()
    response.read()
    seconds = time.perf_counter() - began
    connection.close()
    return response.status, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=64, help="of 2**20 bytes")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    noise = random.Random(0).randbytes(options.megabytes << 20)
    form, form_type = file_form("noise.mp4", noise)
    settings = {"AFTERFRAME_PORT": str(_OUR_PORT), "AFTERFRAME_LOG_LEVEL": "warning", "AFTERFRAME_MODELS": "actions"}
    bare_command = ["uvicorn", "bench.uploads:bare", "--port", str(_BARE_PORT), "--log-level", "warning"]
    ways = {
        "bare Starlette": (_BARE_PORT, "/", noise, _RAW, 200),
        "raw": (_OUR_PORT, "/classify", noise, _RAW, 415),
        "form": (_OUR_PORT, "/classify", form, form_type, 415),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with started(bare_command, _BARE_PORT, "/"), started(["app"], _OUR_PORT, "/health/ready", **settings):
        for _ in range(options.rounds + 1):
            for name, (port, path, body, content_type, expected) in ways.items():
                status, took = send(port, path, body, content_type)
                assert status == expected, (name, status)
                seconds[name].append(took)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.megabytes} MiB")
    baseline = seconds["bare Starlette"][1:]
    for name, times in seconds.items():
        ratio = median([bare / ours for bare, ours in zip(baseline, times[1:], strict=True)])
        print(f"{name}: {options.megabytes / median(times[1:]):.0f} MiB/s, {ratio:.2f} of bare Starlette's")


if __name__ == "__main__":
    main()
