"""What the service takes does not grow with the upload: an hour costs what a minute does."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from tests.media_maker import moving_frames, sine, write_sound, write_video
from tests.server import RunningServer, running_server
from tests.streaming import picture, streaming
from tests.tiny_listeners import SAMPLE_RATE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ALLOWED_MB = 30.0
"""Allocators keep what they once had. An hour of sound is 115 MB of float32."""


@pytest.fixture(scope="module")
def patient(store: Path) -> Iterator[RunningServer]:
    with running_server(store, deadline_seconds=500) as server:
        yield server


def peak_mb(server: RunningServer, route: str, upload: Path) -> float:
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak starts anew: proc(5)
    with upload.open("rb") as file, httpx.Client(base_url=server.url, timeout=500) as client:
        response = client.post(route, content=file)
    assert response.status_code == 200, response.text
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", status)
    assert found
    return int(found[1]) / 1024


@pytest.mark.parametrize(
    "route",
    [
        "/features",
        "/features?level=windows&window_seconds=10",
        "/classify?model=tiny-listener&timeline=true",
        "/classify?model=tiny-hearer&timeline=true",
    ],
)
def test_an_hour_of_sound(patient: RunningServer, tmp_path: Path, route: str) -> None:
    minute = write_sound(tmp_path / "minute.wav", sine(60, SAMPLE_RATE), SAMPLE_RATE)
    hour = write_sound(tmp_path / "hour.wav", sine(3600, SAMPLE_RATE), SAMPLE_RATE)
    peak_mb(patient, route, minute)  # what is seen first is compiled
    assert peak_mb(patient, route, hour) - peak_mb(patient, route, minute) < ALLOWED_MB


def test_the_surprise_of_a_long_video(patient: RunningServer, tmp_path: Path) -> None:
    frames = moving_frames(600, 64, 48)
    short = write_video(tmp_path / "short.mp4", frames, 10)
    long = write_video(tmp_path / "long.mp4", np.tile(frames, (20, 1, 1, 1)), 10, options={"preset": "ultrafast"})
    route = "/predict?surprise=true"
    peak_mb(patient, route, short)
    assert peak_mb(patient, route, long) - peak_mb(patient, route, short) < ALLOWED_MB


def test_sessions_that_have_ended_keep_nothing_of_what_was_sent(store: Path) -> None:
    """Eight of each kind are kept. They held 36 MB of what came too fast, or 9 MB of pictures."""
    large = picture(moving_frames(1)[0]) + bytes(2**20)
    with running_server(store, max_sessions=8) as server:
        for number in range(20):
            with streaming(server, model="tiny") as client:
                client.start(max_in_flight=32)
                for _ in range(16):
                    client.show(0.0, large)
                client.show(-1.0, large)
                assert client.close_code() == 4400
            with streaming(server, model="tiny") as client, suppress(ConnectionClosed):
                client.start(kind="encoded")
                for _ in range(8):
                    client.send(b"no video" * 2**19)
            if number == 0:  # what is seen first is compiled
                before = server.memory_bytes()
        server.wait_for_metric("afterframe_stream_sessions", 0)
        assert server.memory_bytes() - before < 60e6
