"""Uploads that take their time: decoded while they come, where their kind allows it."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.test_events import metric, without_timing
from tests.conftest import RATE, coloured_frames
from tests.media_maker import sine, write_sound, write_video
from tests.server import RunningServer

PIECE_SECONDS = 0.06  # between pieces: after three of them, an upload counts as one that takes long
PIECES = 12
EVENTS = "application/x-ndjson"


def in_pieces(data: bytes) -> Iterator[bytes]:
    for k in range(PIECES):
        yield data[len(data) * k // PIECES : len(data) * (k + 1) // PIECES]
        time.sleep(PIECE_SECONDS)


class Uploader:
    """An HTTP client that reads answers while it still sends, which httpx does not."""

    def __init__(self, server: RunningServer, path: str, headers: dict[str, str]) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        lines = [f"POST {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
        self.socket.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        self.file = self.socket.makefile("rb")
        self.headers: dict[str, str] = {}
        """Of the answer, names in lower case, once `status` was read."""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def status(self) -> int:
        """Of the answer, once it begins; its headers are read."""
        status = int(self.file.readline().split()[1])
        while line := self.file.readline().decode().strip():
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value
        return status

    def body(self) -> bytes:
        """Of an answer in one piece."""
        return self.file.read(int(self.headers["content-length"]))

    def event(self) -> dict[str, Any] | None:
        """The next one of a chunked answer, a line each."""
        size = int(self.file.readline(), 16)
        data = self.file.read(size)
        self.file.readline()
        return json.loads(data) if size else None

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Forty seconds in three colours, as Matroska, MPEG-TS or plain MP4."""
    folder = tmp_path_factory.mktemp("media")
    frames = coloured_frames(*["green", "blue", "red"] * 2, seconds=7.0)

    def make(suffix: str) -> bytes:
        path = folder / f"v{suffix}"
        if not path.exists():
            write_video(path, frames, RATE, options={"preset": "ultrafast", "g": "12"})
        return path.read_bytes()

    return make


@pytest.mark.parametrize("models", ["model=tiny-rate", "model=tiny-rate&model=tiny", "model=tiny"])
@pytest.mark.parametrize("form", [False, True])
def test_the_first_result_comes_before_the_last_byte(server, client, long_video, models, form):
    data = long_video(".mkv")
    whole = client.post(f"/classify?timeline=true&{models}", content=data).json()
    headers = {"Accept": EVENTS, "Content-Length": str(len(data)), "Content-Type": "video/x-matroska"}
    if form:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a/v.mkv"\r\n\r\n'
        data = head + data + b"\r\n--b--\r\n"
        headers |= {"Content-Length": str(len(data)), "Content-Type": "multipart/form-data; boundary=b"}
    uploader = Uploader(server, f"/classify?timeline=true&{models}", headers)
    half = len(data) * 2 // 3
    uploader.send(data[:half])
    assert uploader.status() == 200
    events = [uploader.event()]
    assert events[0]["type"] == "progress"
    uploader.send(data[half:])
    while event := uploader.event():
        events.append(event)
    uploader.close()
    assert [event["type"] for event in events] == ["progress"] * (len(events) - 1) + ["result"]
    assert without_timing(events[-1]) == without_timing(whole)
    assert events[-1]["timing"]["decoded_while_uploading"]
    assert not whole["timing"]["decoded_while_uploading"]
    name = 'afterframe_first_result_duration_seconds_count{route="/classify"}'
    assert metric(client, name) >= 1


@pytest.mark.parametrize(("suffix", "early"), [(".ts", True), (".mkv", True), (".mp4", False)])
def test_an_answer_in_one_piece_is_the_same(client: httpx.Client, long_video, suffix: str, early: bool) -> None:
    data = long_video(suffix)
    url = "/classify?model=tiny-rate&timeline=true"
    at_once, slowly = client.post(url, content=data).json(), client.post(url, content=in_pieces(data)).json()
    assert without_timing(slowly) == without_timing(at_once)
    assert slowly["timing"]["decoded_while_uploading"] is early


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_the_time_of_the_upload_is_not_that_of_the_work(server, client, long_video, suffix: str) -> None:
    name = 'afterframe_realtime_factor_sum{route="/classify"}'
    before = server.metric(name)
    response = client.post("/classify?model=tiny-rate", content=in_pieces(long_video(suffix)))
    line = server.line(response.headers["x-request-id"])
    stages = line["stages"]
    work_seconds = max(line["seconds"] - stages["upload"], stages["decode"])
    assert work_seconds < line["seconds"] - PIECE_SECONDS  # while the client slept there was little to do
    media_seconds = response.json()["media"]["duration_seconds"]
    assert server.metric(name) - before == pytest.approx(media_seconds / work_seconds, rel=0.02)  # the line rounds


def test_a_plain_mp4_says_that_it_has_to_be_complete(client: httpx.Client, long_video) -> None:
    url = "/classify?model=tiny-rate&timeline=true"
    answer = client.post(url, content=in_pieces(long_video(".mp4")), headers={"accept": EVENTS})
    first, *rest = [json.loads(line) for line in answer.text.splitlines()]
    assert (first["type"], rest[-1]["type"]) == ("waiting", "result")
    assert "index" in first["detail"]


@pytest.mark.parametrize("kind", ["sound", "video"])
def test_sound_is_heard_while_it_comes(client: httpx.Client, tmp_path: Path, kind: str) -> None:
    waveform = sine(20.0, 8000)
    if kind == "sound":
        path = write_sound(tmp_path / "sound.wav", waveform, 8000)
    else:
        frames = coloured_frames(*["red"] * 4, seconds=5.0)
        path = write_video(tmp_path / "video.mkv", frames, RATE, waveform=waveform, sample_rate=8000)
    sound = path.read_bytes()
    url = "/features?model=tiny-describer&level=windows"
    at_once, slowly = client.post(url, content=sound).json(), client.post(url, content=in_pieces(sound)).json()
    assert without_timing(slowly) == without_timing(at_once)
    assert slowly["timing"]["decoded_while_uploading"]


def test_what_does_not_decode_is_refused_as_ever(client: httpx.Client) -> None:
    answer = client.post("/classify?model=tiny-rate", content=in_pieces(b"no video" * 100))
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")


def test_a_client_that_leaves_in_the_middle_frees_its_worker(server, client, long_video):
    data = long_video(".mkv")
    replaced = 'afterframe_decoder_worker_restarts_total{reason="cancelled"}'
    before, replaced_before = metric(client, "afterframe_arriving_workers_idle"), metric(client, replaced)
    headers = {"Content-Length": str(len(data)), "Accept": EVENTS}
    uploader = Uploader(server, "/classify?timeline=true&model=tiny-rate", headers)
    uploader.send(data[: len(data) // 2])
    assert uploader.status() == 200
    assert metric(client, "afterframe_arriving_workers_idle") == before - 1
    uploader.close()
    server.wait_for_metric("afterframe_arriving_workers_idle", before)
    assert metric(client, replaced) == replaced_before + 1
    assert metric(client, "afterframe_requests_in_flight") == 0


def test_where_all_workers_wait_an_upload_is_decoded_once_it_is_there(server, client, long_video):
    data = long_video(".mkv")
    headers = {"Content-Length": str(len(data)), "Accept": EVENTS}
    slow = [Uploader(server, "/classify?timeline=true&model=tiny-rate", headers) for _ in range(2)]
    for uploader in slow:
        uploader.send(data[: len(data) // 2])
        assert uploader.status() == 200
    answer = client.post("/classify?model=tiny-rate&timeline=true", content=in_pieces(data))
    assert answer.json()["timing"]["decoded_while_uploading"] is False
    for uploader in slow:
        uploader.send(data[len(data) // 2 :])
        while (event := uploader.event())["type"] != "result":
            pass
        assert event["timing"]["decoded_while_uploading"]
        uploader.close()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n', "no field 'file'"),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n', "is text"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="v"\r\n\r\n\r\n--b--\r\n', "empty"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="v"\r\n\r\n' * 2 + b"x\r\n--b--\r\n", None),
        (
            2 * b'--b\r\nContent-Disposition: form-data; name="file"; filename="v"\r\n\r\nx\r\n' + b"--b--\r\n",
            "more than",
        ),
        (9 * b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n' + b"--b--\r\n", "more than 8"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="v"; ' + b"x" * 20_000, "cannot be read"),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"x" * 2**21 + b"\r\n--b--\r\n", "more than"),
        (b"no form at all", "cannot be read"),
    ],
)
def test_forms_without_one_file_are_refused(client: httpx.Client, body: bytes, detail: str | None) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/classify", content=body, headers=headers)
    if detail is None:  # the second header is part of the file
        assert answer.status_code == 415
    else:
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
        assert detail in answer.json()["detail"]
