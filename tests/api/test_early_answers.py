"""Answers before the end of the file: for a client that would not wait, or where scores have settled."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.pipelines.settling import SETTLED_SECONDS
from bench.memory import loop
from tests.api.test_arriving import EVENTS, Uploader, in_pieces
from tests.conftest import RATE, coloured_frames
from tests.media_maker import sine, write_sound, write_video
from tests.server import RunningServer

MINUTES = 60
TOLERANCE = 1e-5  # the contract's: any split of a sound comes to the same


@pytest.fixture(scope="module")
def large_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Red for so long, and so large, that no machine has judged it in four seconds."""
    folder = tmp_path_factory.mktemp("media")
    frames = coloured_frames("red", seconds=4.0, width=960, height=540)
    once = write_video(folder / "once.mkv", frames, RATE, options={"preset": "ultrafast"})
    loop(once, MINUTES * 60.0, folder / "large.mkv")
    return (folder / "large.mkv").read_bytes()


@pytest.mark.parametrize(("model", "accept"), [("tiny-rate", "application/x-ndjson"), ("tiny", "application/json")])
def test_time_is_up(client: httpx.Client, large_video: bytes, model: str, accept: str) -> None:
    headers = {"prefer": "respond-async, wait=4", "accept": accept}
    response = client.post(f"/classify?timeline=true&model={model}", content=large_video, headers=headers)
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=4"
    answer = json.loads(response.text.splitlines()[-1])
    assert answer["partial"] is True
    (result,) = answer["results"]
    assert result["labels"][0]["label"] == "red"
    assert 0 < result["frames_used"] < MINUTES * 60 * 4
    (segment,) = result["segments"]
    assert segment["label"] == "red"
    assert segment["end_seconds"] == pytest.approx(result["frames_used"] / 4)


def test_without_anything_known_it_is_a_504(client: httpx.Client, large_video: bytes) -> None:
    response = client.post("/classify?model=tiny", content=large_video, headers={"prefer": "wait=0"})
    assert (response.status_code, response.headers["content-type"]) == (504, "application/problem+json")


@pytest.mark.parametrize(
    "prefer",
    ["wait=20", "wait=x", "return=minimal", "wait", pytest.param("wait=" + "9" * 5000, id="more digits than are read")],
)
def test_what_is_done_in_time_is_whole(client: httpx.Client, red_video: Path, prefer: str) -> None:
    data = red_video.read_bytes()
    plain = client.post("/classify?model=tiny&timeline=true", content=data).json()
    response = client.post("/classify?model=tiny&timeline=true", content=data, headers={"prefer": prefer})
    assert ("preference-applied" in response.headers) == (prefer == "wait=20")
    assert response.json()["partial"] is False
    assert response.json()["results"] == plain["results"]


@contextmanager
def stopped_halfway(
    server: RunningServer, url: str, data: bytes, counted: str, accept: str = EVENTS
) -> Iterator[Uploader]:
    """A request whose file is read no further once the model has been called for half of it, before its last byte."""
    metric = f'afterframe_batch_size_count{{{counted},version="1"}}'
    before = server.metric(metric)
    uploader = Uploader(server, url, {"Accept": accept, "Prefer": "wait=1", "Content-Length": str(len(data))})
    uploader.send(data[: len(data) // 2])
    server.wait_for_metric(metric, before + 2, at_least=True)  # what came of the first is known when the second comes
    with server.workers_stopped():
        uploader.send(data[len(data) // 2 :])
        assert uploader.status() == 200
        assert uploader.headers["preference-applied"] == "wait=1"
        yield uploader
    uploader.close()


def last_event(uploader: Uploader) -> dict[str, Any]:
    events = []
    while event := uploader.event():
        events.append(event)
    assert events[-1]["type"] == "result"
    assert events[-1]["partial"] is True
    assert_told_of_what_was_read(events[-1])
    return events[-1]


def assert_told_of_what_was_read(answer: dict[str, Any]) -> None:
    """Of an upload that was decoded while it came, and not to its end."""
    timing = answer["timing"]
    assert timing["decoded_while_uploading"] is True
    assert 0 < timing["decode_seconds"] < timing["total_seconds"]


@pytest.fixture(scope="module")
def minute_of_sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("media") / "minute.wav"
    return write_sound(path, sine(60.0, 8000), 8000).read_bytes()


@pytest.fixture(scope="module")
def minute_of_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("media") / "minute.mkv"
    return write_video(path, coloured_frames(*["red"] * 20, seconds=3.0), RATE).read_bytes()


def test_features_of_what_was_heard(server, client, minute_of_sound: bytes) -> None:
    url = "/features?model=tiny-describer&level=windows&log_mel=true"
    with stopped_halfway(server, url, minute_of_sound, 'method="step",model="tiny-describer"') as uploader:
        answer = last_event(uploader)
    heard = answer["end_seconds"]
    assert 8 <= heard <= 30
    alone = client.post(f"{url}&end_seconds={heard}", content=minute_of_sound).json()
    np.testing.assert_allclose(answer["clip"], alone["clip"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(answer["log_mel"], alone["log_mel"], rtol=0, atol=TOLERANCE)
    for window, same in zip(answer["windows"], alone["windows"], strict=True):
        assert window["end_seconds"] == same["end_seconds"]
        np.testing.assert_allclose(window["features"], same["features"], rtol=0, atol=TOLERANCE)


def test_a_table_of_what_was_heard_says_so_in_a_header(server, minute_of_sound: bytes) -> None:
    url, counted = "/features?model=tiny-describer&level=windows", 'method="step",model="tiny-describer"'
    with stopped_halfway(server, url, minute_of_sound, counted, "text/csv") as uploader:
        rows = uploader.body().decode().splitlines()[1:]
    assert uploader.headers["x-partial"] == "true"
    assert 8 <= len(rows) <= 30  # a window is a second


def test_surprise_of_what_was_compared_and_what_follows_that(server, client, minute_of_video: bytes) -> None:
    url = "/predict?model=tiny-forecast&surprise=true&horizon=3"
    with stopped_halfway(server, url, minute_of_video, 'method="step",model="tiny-forecast"') as uploader:
        answer = last_event(uploader)
    last = answer["surprise"][-1]["time_seconds"]
    assert answer["at_seconds"] == last < 31
    rate = answer["frame_rate"]
    assert [frame["time_seconds"] for frame in answer["frames"]] == pytest.approx(
        [last + number / rate for number in (1, 2, 3)], abs=1e-5
    )
    whole = client.post(url, content=minute_of_video).json()
    assert whole["partial"] is False
    assert answer["surprise"] == whole["surprise"][: len(answer["surprise"])]


@pytest.mark.parametrize("model", ["tiny-writer", "tiny-writer-whole"])
def test_the_shots_described_so_far(server, minute_of_video: bytes, model: str) -> None:
    url = f"/caption?model={model}&timeline=true"
    with stopped_halfway(server, url, minute_of_video, f'method="forward",model="{model}"', "*/*") as uploader:
        answer = json.loads(uploader.body())
    assert answer["partial"] is True
    assert_told_of_what_was_read(answer)
    assert answer["segments"][0]["text"] == "A red film."
    assert 4 <= answer["segments"][-1]["end_seconds"] < 31
    assert answer["comments"][0]["text"].startswith("A red film.")


@pytest.mark.parametrize("url", ["/predict?model=tiny-forecast", "/caption?model=tiny-writer"])
def test_what_has_no_half_answer_is_waited_for(client: httpx.Client, red_video: Path, url: str) -> None:
    response = client.post(url, content=red_video.read_bytes(), headers={"prefer": "wait=0"})
    assert response.status_code == 200
    assert "preference-applied" not in response.headers
    assert response.json()["partial"] is False


@pytest.mark.parametrize(
    "url",
    [
        "/features?model=tiny-describer",
        "/predict?model=tiny-forecast&surprise=true",
        "/caption?model=tiny-writer&timeline=true",
    ],
)
def test_where_nothing_is_known_yet_it_is_a_504(client: httpx.Client, tmp_path: Path, url: str) -> None:
    frames = coloured_frames("red", seconds=1.0)
    video = write_video(tmp_path / "v.mkv", frames, RATE, waveform=sine(1.0, 8000), sample_rate=8000)
    response = client.post(url, content=video.read_bytes(), headers={"prefer": "wait=0"})
    assert (response.status_code, response.headers["content-type"]) == (504, "application/problem+json")


@pytest.mark.parametrize("model", ["tiny-rate", "tiny"])
def test_settled_scores_end_it(client: httpx.Client, large_video: bytes, model: str) -> None:
    answer = client.post(f"/classify?early_exit=true&model={model}", content=large_video).json()
    (result,) = answer["results"]
    assert result["settled"] is True
    assert result["labels"][0]["label"] == "red"
    assert SETTLED_SECONDS * 4 <= result["frames_used"] < 100
    assert answer["partial"] is False


def test_what_was_read_is_counted(server: RunningServer, client: httpx.Client, minute_of_video: bytes) -> None:
    names = [
        'afterframe_frames_total{outcome="decoded"}',
        'afterframe_media_seconds_total{route="/classify"}',
        'afterframe_realtime_factor_count{route="/classify"}',
    ]
    before = [server.metric(name) for name in names]
    response = client.post("/classify?early_exit=true&model=tiny-rate", content=in_pieces(minute_of_video))
    server.line(response.headers["x-request-id"])
    frames, seconds, requests = (server.metric(name) - value for name, value in zip(names, before, strict=True))
    assert response.json()["results"][0]["settled"] is True
    assert_told_of_what_was_read(response.json())
    assert SETTLED_SECONDS <= seconds < 60
    assert frames == seconds * 4  # those that were taken
    assert requests == 1


@pytest.mark.parametrize("model", ["tiny-rate", "tiny"])
def test_scores_that_do_not_settle_are_those_of_the_whole(
    client: httpx.Client, three_colour_video: Path, model: str
) -> None:
    """Two seconds of each colour are not enough."""
    path = three_colour_video.with_name("short.mp4")
    write_video(path, coloured_frames("green", "blue", "red", seconds=1.5), RATE)
    plain = client.post(f"/classify?model={model}", content=path.read_bytes()).json()
    early = client.post(f"/classify?model={model}&early_exit=true", content=path.read_bytes()).json()
    assert early["results"] == plain["results"]
    assert early["results"][0]["settled"] is False


def test_all_models_must_have_settled(client: httpx.Client, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "sound.wav", sine(40.0, 8000), 8000).read_bytes()
    url = "/classify?model=tiny-hearer&model=tiny-listener"
    plain, early = (client.post(url + more, content=sound).json() for more in ("", "&early_exit=true"))
    assert early["results"] == plain["results"]  # one of them hears parts, of which none is enough
