"""Answers before the end of the file: for a client that would not wait, or where scores have settled."""

import json
from pathlib import Path

import httpx
import pytest

from app.pipelines.settling import SETTLED_SECONDS
from bench.memory import loop
from tests.conftest import RATE, coloured_frames
from tests.media_maker import sine, write_sound, write_video

MINUTES = 60


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


@pytest.mark.parametrize("prefer", ["wait=20", "wait=x", "return=minimal", "wait"])
def test_what_is_done_in_time_is_whole(client: httpx.Client, red_video: Path, prefer: str) -> None:
    data = red_video.read_bytes()
    plain = client.post("/classify?model=tiny&timeline=true", content=data).json()
    response = client.post("/classify?model=tiny&timeline=true", content=data, headers={"prefer": prefer})
    assert ("preference-applied" in response.headers) == (prefer == "wait=20")
    assert response.json()["partial"] is False
    assert response.json()["results"] == plain["results"]


@pytest.mark.parametrize("model", ["tiny-rate", "tiny"])
def test_settled_scores_end_it(client: httpx.Client, large_video: bytes, model: str) -> None:
    answer = client.post(f"/classify?early_exit=true&model={model}", content=large_video).json()
    (result,) = answer["results"]
    assert result["settled"] is True
    assert result["labels"][0]["label"] == "red"
    assert SETTLED_SECONDS * 4 <= result["frames_used"] < 100
    assert answer["partial"] is False


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
