"""POST /classify over HTTP, against a real server with real videos and small real models."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import RATE, coloured_frames
from tests.media_maker import write_video
from tests.server import RunningServer


def classify(client: httpx.Client, video: Path, **query: object) -> httpx.Response:
    return client.post("/classify", params=query, content=video.read_bytes())


def test_answer_is_complete(client: httpx.Client, red_video: Path) -> None:
    answer = classify(client, red_video).json()
    assert answer["media"] == {
        "duration_seconds": pytest.approx(2.0),
        "width": 64,
        "height": 48,
        "frame_rate": pytest.approx(12.0),
        "video_codec": "h264",
        "audio_codec": None,
        "has_audio": False,
    }
    (result,) = answer["results"]
    assert result["model"]["name"] == "tiny"
    assert result["model"]["version"] == "2"
    assert result["model"]["license"] == "CC0-1.0"
    assert len(result["model"]["digest"]) == 64
    assert result["labels"][0]["label"] == "red"
    assert sum(entry["score"] for entry in result["labels"]) == pytest.approx(1.0)
    assert result["segments"] is None
    assert result["frames_used"] == 8
    assert result["sampling"] == "exact"
    assert set(answer["timing"]) == {
        "queue_seconds",
        "upload_seconds",
        "decode_seconds",
        "infer_seconds",
        "total_seconds",
        "decoded_while_uploading",
    }
    assert answer["timing"]["total_seconds"] >= answer["timing"]["upload_seconds"] > 0


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "video/mp4"},
        {"content-type": "application/octet-stream"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "text/plain"},
        {},
    ],
)
def test_raw_bodies_are_taken_whatever_the_content_type(
    client: httpx.Client, red_video: Path, headers: dict[str, str]
) -> None:
    response = client.post("/classify", content=red_video.read_bytes(), headers=headers)
    assert response.json()["results"][0]["labels"][0]["label"] == "red"


def test_multipart_chunked_and_raw_agree(client: httpx.Client, red_video: Path) -> None:
    raw = classify(client, red_video).json()["results"]
    with red_video.open("rb") as file:
        multipart = client.post("/classify", files={"file": ("../../etc/passwd", file, "image/png")}).json()["results"]
    with red_video.open("rb") as file:
        chunked = client.post("/classify", content=iter(lambda: file.read(1000), b"")).json()["results"]
    assert raw == multipart == chunked


def test_several_models_answer_in_the_order_asked(client: httpx.Client, three_colour_video: Path) -> None:
    answer = classify(client, three_colour_video, model=["tiny-rate", "tiny"], timeline=True).json()
    assert [result["model"]["name"] for result in answer["results"]] == ["tiny-rate", "tiny"]
    alone = classify(client, three_colour_video, model="tiny", timeline=True).json()
    assert answer["results"][1] == alone["results"][0]


def test_timeline_finds_the_parts(client: httpx.Client, three_colour_video: Path) -> None:
    (result,) = classify(client, three_colour_video, timeline=True).json()["results"]
    segments = result["segments"]
    assert [segment["label"] for segment in segments] == ["green", "blue", "red"]
    assert segments[0]["start_seconds"] == 0
    assert segments[-1]["end_seconds"] == pytest.approx(9.0)
    for before, after, boundary in zip(segments, segments[1:], (3.0, 6.0), strict=False):
        assert before["end_seconds"] == after["start_seconds"]
        assert after["start_seconds"] == pytest.approx(boundary, abs=0.5)  # two steps at 4 per second


def test_start_and_end_choose_a_part(client: httpx.Client, three_colour_video: Path) -> None:
    query = {"start_seconds": 3.25, "end_seconds": 5.75, "timeline": True}
    (result,) = classify(client, three_colour_video, **query).json()["results"]
    assert result["labels"][0]["label"] == "blue"
    (segment,) = result["segments"]
    assert (segment["start_seconds"], segment["end_seconds"]) == pytest.approx((3.25, 5.75), abs=0.1)


def test_a_part_that_six_digits_cannot_tell_from_none_is_refused(client: httpx.Client, red_video: Path) -> None:
    """Its segment would be [0.0, 0.0)."""
    response = client.post("/classify?timeline=true&end_seconds=1e-12", content=red_video.read_bytes())
    assert response.status_code == 400
    assert "by a microsecond" in response.json()["detail"]
    (result,) = classify(client, red_video, timeline=True, end_seconds=1e-6).json()["results"]
    (segment,) = result["segments"]
    assert (segment["start_seconds"], segment["end_seconds"]) == (0.0, 1e-6)


def test_top_k_and_min_score_cut_the_labels(client: httpx.Client, red_video: Path) -> None:
    assert len(classify(client, red_video, top_k=2).json()["results"][0]["labels"]) == 2
    assert len(classify(client, red_video, min_score=0.5).json()["results"][0]["labels"]) == 1


def test_key_frames_suffice_for_frames_that_are_spread_and_for_no_others(client: httpx.Client, tmp_path: Path) -> None:
    frames = coloured_frames("red", "green", "blue")
    video = write_video(tmp_path / "keys.mp4", frames, RATE, options={"g": "6"})
    answer = classify(client, video, model=["tiny", "tiny-rate"], sampling="fast").json()
    assert [result["sampling"] for result in answer["results"]] == ["fast", "exact"]


def test_a_version_can_be_pinned(client: httpx.Client, red_video: Path) -> None:
    (result,) = classify(client, red_video, model="tiny", version="1").json()["results"]
    assert result["model"]["version"] == "1"


def test_concurrent_requests_answer_as_alone(
    server: RunningServer, client: httpx.Client, red_video: Path, three_colour_video: Path
) -> None:
    videos = [red_video, three_colour_video] * 8
    alone = {video: classify(client, video).json()["results"] for video in set(videos)}
    with server.client() as several, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda video: (video, classify(several, video).json()["results"]), videos))
    for video, results in answers:
        for entry, lone in zip(results[0]["labels"], alone[video][0]["labels"], strict=True):
            assert entry["label"] == lone["label"]
            assert entry["score"] == pytest.approx(lone["score"], abs=1e-5)  # the contract's tolerance
