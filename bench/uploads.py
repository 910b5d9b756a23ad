"""How fast an upload comes in, raw and as a form, compared with a bare Starlette application and the same bytes.

python -m bench.uploads [--megabytes 64] [--rounds 7]

The service gets a video of a few small frames, padded to the size. The time of the same video without padding is
printed and subtracted. The bare application counts the bytes and keeps none.
"""

import argparse
import http.client
import io
import os
import random
import struct
import time

import av
import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.contenders import file_form
from bench.load import median
from bench.service import started

_BARE_PORT, _OUR_PORT = 8142, 8141
BARE = "bare Starlette"
_RAW = "application/octet-stream"


async def _count(request: Request) -> PlainTextResponse:
    num_bytes = 0
    async for piece in request.stream():
        num_bytes += len(piece)
    return PlainTextResponse(str(num_bytes))


bare = Starlette(routes=[Route("/", _count, methods=["GET", "POST"])])


def padded_video(num_bytes: int) -> bytes:
    """An MP4 of 16 frames, followed by so many bytes of noise that players ignore."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 160, 10):
            grey = np.full((48, 64, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    if not num_bytes:
        return buffer.getvalue()
    return buffer.getvalue() + struct.pack(">I4s", 8 + num_bytes, b"free") + random.Random(0).randbytes(num_bytes)


def send(port: int, path: str, body: bytes, content_type: str) -> float:
    """Seconds until the answer was there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    connection.request("POST", path, body, {"Content-Type": content_type})
    response = connection.getresponse()
    response.read()
    seconds = time.perf_counter() - began
    connection.close()
    assert response.status == http.HTTPStatus.OK, response.status
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=64, help="of 2**20 bytes")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    small, large = padded_video(0), padded_video(options.megabytes << 20)
    forms = {body: file_form("video.mp4", body) for body in (small, large)}
    settings = {"AFTERFRAME_PORT": str(_OUR_PORT), "AFTERFRAME_LOG_LEVEL": "warning", "AFTERFRAME_MODELS": "motion"}
    bare_command = ["uvicorn", "bench.uploads:bare", "--port", str(_BARE_PORT), "--log-level", "warning"]
    ways = {
        BARE: (_BARE_PORT, "/", {body: (body, _RAW) for body in forms}),
        "raw": (_OUR_PORT, "/classify", {body: (body, _RAW) for body in forms}),
        "form": (_OUR_PORT, "/classify", forms),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    unpadded: dict[str, list[float]] = {name: [] for name in ways}
    with started(bare_command, _BARE_PORT, "/"), started(["app"], _OUR_PORT, "/health/ready", **settings):
        for _ in range(options.rounds + 1):
            for name, (port, path, bodies) in ways.items():
                took = {body: send(port, path, *sent) for body, sent in bodies.items()}
                seconds[name].append(took[large] - took[small])
                unpadded[name].append(took[small])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {options.megabytes} MiB")
    for name, times in seconds.items():
        ratio = median([bare / ours for bare, ours in zip(seconds[BARE][1:], times[1:], strict=True)])
        rate, rest = options.megabytes / median(times[1:]), 1000 * median(unpadded[name][1:])
        print(f"{name}: {rate:.0f} MiB/s, {ratio:.2f} of bare Starlette's, beside {rest:.0f} ms for the video alone")


if __name__ == "__main__":
    main()
