"""POST /predict over HTTP. The tiny forecaster goes on evenly, so that what it must answer can be said."""

import base64
import io
import tempfile
from pathlib import Path

import av
import httpx
import numpy as np
import pytest

from app.media.encode import BORDER, MARK
from tests.media_maker import moving_frames, sine, write_sound, write_video
from tests.server import RunningServer
from tests.tiny_forecaster import MAX_HORIZON, OBSERVED, RATE

LEVEL = 3  # of 255: what an H.264 round trip of a flat picture at crf 1 may be off by
LOSSLESS = {"crf": "1"}


def predict(client: httpx.Client, video: Path, accept: str = "*/*", **query: object) -> httpx.Response:
    response = client.post("/predict", params=query, content=video.read_bytes(), headers={"accept": accept})
    assert response.status_code == 200, response.text
    return response


def decode(content: bytes) -> np.ndarray:
    """(T, H, W, 3)"""
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def brightness(levels: list[int], width: int = 48, height: int = 36) -> np.ndarray:
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


@pytest.fixture(scope="module")
def brighter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds in which every frame is 5 levels brighter than the one before."""
    path = tmp_path_factory.mktemp("media") / "brighter.mp4"
    return write_video(path, brightness([20 + 5 * step for step in range(30)]), 10, options=LOSSLESS)


@pytest.fixture(scope="module")
def flash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds that change evenly but for two white frames from 3.0 s on."""
    frames = brightness([20 + step for step in range(60)])
    frames[30:32] = 255
    path = tmp_path_factory.mktemp("media") / "flash.mp4"
    return write_video(path, frames, 10, options=LOSSLESS)


def test_json_goes_on_where_the_video_ends(client: httpx.Client, brighter: Path) -> None:
    answer = predict(client, brighter, horizon=5).json()
    assert answer["model"]["name"] == "tiny-forecast"
    assert answer["frame_rate"] == RATE
    assert (answer["width"], answer["height"]) == (32, 24)  # the longest side the model sees
    assert answer["at_seconds"] == pytest.approx(2.9)
    assert [frame["time_seconds"] for frame in answer["frames"]] == pytest.approx([3.0, 3.1, 3.2, 3.3, 3.4])
    pictures = [decode(base64.b64decode(frame["png"]))[0] for frame in answer["frames"]]
    assert {picture.shape for picture in pictures} == {(24, 32, 3)}
    for step, picture in enumerate(pictures, 1):
        assert np.abs(picture.astype(int) - min(165 + 5 * step, 255)).max() <= LEVEL * (step + 1)
    assert answer["surprise"] is None
    assert answer["surprise_segments"] is None
    assert answer["media"]["video_codec"] == "h264"


def test_png_loses_nothing(client: httpx.Client, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", moving_frames(12, 62, 46), 10)
    frames = predict(client, video, horizon=3).json()["frames"]
    predicted = np.load(io.BytesIO(predict(client, video, horizon=3, format="npz").content))["predicted"]
    assert np.array_equal([decode(base64.b64decode(frame["png"]))[0] for frame in frames], predicted)


def test_the_default_horizon_and_the_largest(client: httpx.Client, brighter: Path) -> None:
    assert len(predict(client, brighter).json()["frames"]) == 10
    assert len(predict(client, brighter, horizon=MAX_HORIZON).json()["frames"]) == MAX_HORIZON


def test_at_seconds_moves_the_present(client: httpx.Client, brighter: Path) -> None:
    answer = np.load(io.BytesIO(predict(client, brighter, at_seconds=1.05, format="npz", horizon=2).content))
    assert answer["observed_times"] == pytest.approx([0.75, 0.85, 0.95, 1.05])
    assert answer["predicted_times"] == pytest.approx([1.15, 1.25])
    levels = answer["observed"].astype(int).mean(axis=(1, 2, 3))
    assert levels == pytest.approx([55, 60, 65, 70], abs=LEVEL)  # the frames on display then


def test_before_the_first_frame_it_repeats(client: httpx.Client, brighter: Path) -> None:
    answer = np.load(io.BytesIO(predict(client, brighter, at_seconds=0.1, format="npz", horizon=1).content))
    assert answer["observed_times"] == pytest.approx([0, 0, 0, 0.1])
    levels = answer["observed"].astype(int).mean(axis=(1, 2, 3))
    assert levels == pytest.approx([20, 20, 20, 25], abs=LEVEL)


def test_one_frame_is_a_video(client: httpx.Client, tmp_path: Path) -> None:
    video = write_video(tmp_path / "one.mp4", brightness([100]), 10, options=LOSSLESS)
    answer = np.load(io.BytesIO(predict(client, video, format="npz", surprise=True).content))
    assert (np.abs(answer["predicted"].astype(int) - 100) <= LEVEL).all()
    assert answer["surprise_scores"].shape == (0,)


def test_npz_holds_what_was_seen_and_what_follows(client: httpx.Client, brighter: Path) -> None:
    response = predict(client, brighter, format="npz", horizon=3, surprise=True)
    assert response.headers["content-type"] == "application/x-npz"
    answer = np.load(io.BytesIO(response.content))
    assert answer["observed"].shape == (OBSERVED, 24, 32, 3)
    assert answer["predicted"].shape == (3, 24, 32, 3)
    assert answer["observed"].dtype == answer["predicted"].dtype == np.uint8
    assert answer["surprise_times"].shape == answer["surprise_scores"].shape == (29,)
    assert answer["surprise_segments"].shape == (0, 3)
    assert str(answer["model"]) == "tiny-forecast@1"
    assert str(answer["license"]) == "CC0-1.0"


@pytest.mark.parametrize(("name", "media_type"), [("mp4", "video/mp4"), ("gif", "image/gif")])
def test_moving_pictures_mark_what_is_predicted(
    client: httpx.Client, brighter: Path, name: str, media_type: str
) -> None:
    response = predict(client, brighter, format=name, horizon=6)
    assert response.headers["content-type"] == media_type
    assert response.headers["x-model"] == "tiny-forecast@1"
    assert "infer;dur=" in response.headers["server-timing"]
    with av.open(io.BytesIO(response.content)) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(RATE)
    frames = decode(response.content).astype(int)
    assert frames.shape == (OBSERVED + 6, 24 + 2 * BORDER, 32 + 2 * BORDER, 3)
    corners = frames[:, 0, 0]
    assert corners[:OBSERVED].max() < 40  # H.264 blurs colours over two pixels, GIF has 256 of them
    assert np.abs(corners[OBSERVED:] - MARK).max() < 40
    middle = frames[:, 12, 16].mean(axis=1)
    assert middle[:OBSERVED] == pytest.approx([150, 155, 160, 165], abs=4)  # a GIF's 256 colours
    assert (np.diff(middle[OBSERVED:]) > 0).all()


def test_an_odd_size_becomes_even(client: httpx.Client, tmp_path: Path) -> None:
    video = write_video(tmp_path / "odd.mp4", brightness([90] * 5, 62, 34), 10, options=LOSSLESS)
    assert predict(client, video).json()["height"] == 18
    tall = write_video(tmp_path / "tall.mp4", brightness([90] * 5, 38, 64), 10, options=LOSSLESS)
    assert predict(client, tall).json()["width"] == 19
    assert decode(predict(client, tall, format="mp4").content).shape[1:] == (32 + 2 * BORDER, 20 + 2 * BORDER, 3)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/gif", "image/gif"),
        ("application/json;q=0.5, video/mp4;q=0.9", "video/mp4"),
        ("application/x-npz, */*;q=0.1", "application/x-npz"),
        ("video/mp4;q=0, text/html", "application/json"),
        ("*/*, image/gif;q=0.1", "application/json"),
        ("image/*", "image/gif"),
        ("image/*, video/mp4;q=0.9", "image/gif"),
        ("application/json;q=0, */*;q=0.1", "video/mp4"),
        ("video/*;q=0.5, video/mp4;q=0, image/*;q=0.1", "image/gif"),
        ("*/*", "application/json"),
        ("application/json, video/mp4", "application/json"),
        ("video/mp4, application/json", "video/mp4"),
        ("*/*, video/mp4", "video/mp4"),
        ("application/x-ndjson, image/gif;q=0.1", "image/gif"),  # a forecast alone has no events
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("", "application/json"),
    ],
)
def test_the_accept_header_chooses(client: httpx.Client, brighter: Path, accept: str, media_type: str) -> None:
    assert predict(client, brighter, accept).headers["content-type"] == media_type


def test_the_query_wins_over_the_accept_header(client: httpx.Client, brighter: Path) -> None:
    assert predict(client, brighter, "image/gif", format="json").headers["content-type"] == "application/json"


def test_surprise_is_the_error_of_each_forecast(client: httpx.Client, brighter: Path) -> None:
    answer = predict(client, brighter, surprise=True).json()
    scores = answer["surprise"]
    assert [entry["time_seconds"] for entry in scores] == pytest.approx([k / 10 for k in range(1, 30)])
    assert scores[0]["score"] == pytest.approx(5 / 255, abs=LEVEL / 255)  # after one frame it expects a stand-still
    assert all(entry["score"] < 2 * LEVEL / 255 for entry in scores[1:])
    assert answer["surprise_segments"] == []


def test_surprise_peaks_where_something_else_came(client: httpx.Client, flash: Path) -> None:
    answer = predict(client, flash, surprise=True).json()
    (segment,) = answer["surprise_segments"]
    # White comes at 3.0 s, goes at 3.2 s, and at 3.3 s what was expected to go on as it went is not there.
    assert (segment["start_seconds"], segment["end_seconds"]) == pytest.approx((3.0, 3.4))
    assert segment["score"] == max(entry["score"] for entry in answer["surprise"])
    assert segment["score"] > 0.7


def test_a_surprise_ends_with_what_was_asked_for(client: httpx.Client, flash: Path) -> None:
    answer = predict(client, flash, surprise=True, end_seconds=3.05).json()
    (segment,) = answer["surprise_segments"]
    assert (segment["start_seconds"], segment["end_seconds"]) == (3.0, 3.05)


def test_surprise_of_a_part(client: httpx.Client, flash: Path) -> None:
    answer = predict(client, flash, surprise=True, start_seconds=4, end_seconds=5, at_seconds=1).json()
    assert [entry["time_seconds"] for entry in answer["surprise"]] == pytest.approx([4 + k / 10 for k in range(1, 10)])
    assert answer["surprise_segments"] == []
    assert answer["at_seconds"] == 1.0


def test_a_long_video_in_chunks_is_as_one(client: httpx.Client, tmp_path: Path) -> None:
    """7 s are four chunks; nothing is seen at their borders."""
    levels = [100 + round(80 * np.sin(step / 5)) for step in range(70)]
    video = write_video(tmp_path / "wave.mp4", brightness(levels), 10, options=LOSSLESS)
    scores = np.array([entry["score"] for entry in predict(client, video, surprise=True).json()["surprise"]])
    expected = np.abs(np.diff(levels, n=2)) / 255
    assert scores[1:] == pytest.approx(expected, abs=4 * LEVEL / 255)  # three frames make a second difference
    assert len(scores) == 69


@pytest.mark.parametrize(
    ("query", "status", "what"),
    [
        ({"horizon": 0}, 400, "horizon"),
        ({"horizon": MAX_HORIZON + 1}, 400, "12 frames at most"),
        ({"horizon": 1000}, 400, "horizon"),
        ({"format": "webm"}, 400, "format"),
        ({"at_seconds": -1}, 400, "at_seconds"),
        ({"at_seconds": "inf"}, 400, "at_seconds"),
        ({"at_seconds": 99}, 422, "nothing at 99 s"),
        ({"start_seconds": 1}, 400, "surprise=true"),
        ({"surprise": True, "start_seconds": 50}, 422, "nothing from 50 s"),
        ({"model": "tiny"}, 404, "is for classify, not for predict"),
        ({"model": "nobody"}, 404, "nobody"),
        ({"top_k": 3}, 400, "top_k"),
    ],
)
def test_what_cannot_be_predicted(
    client: httpx.Client, brighter: Path, query: dict[str, object], status: int, what: str
) -> None:
    response = client.post("/predict", params=query, content=brighter.read_bytes())
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert what in response.json()["detail"]


def test_a_sound_has_no_future_here(client: httpx.Client, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "a.wav", sine(1.0, 8000), 8000)
    response = client.post("/predict", content=sound.read_bytes())
    assert response.status_code == 422
    assert "no moving picture" in response.json()["detail"]


def test_it_is_counted_and_logged(server: RunningServer, client: httpx.Client, brighter: Path) -> None:
    client.post("/predict", content=brighter.read_bytes(), headers={"x-request-id": "future-1"})
    text = client.get("/metrics").text
    assert 'afterframe_http_request_duration_seconds_count{method="POST",route="/predict",status="200"}' in text
    assert 'afterframe_batch_size_count{method="forward",model="tiny-forecast",version="1"}' in text
    (line,) = [line for line in server.lines if line.get("request_id") == "future-1"]
    assert line["models"] == ["tiny-forecast@1"]
    assert set(line["stages"]) == {"upload", "queue", "decode", "infer"}


def test_no_file_is_left(server: RunningServer, client: httpx.Client, brighter: Path) -> None:
    for name in ("mp4", "gif", "npz", "json"):
        predict(client, brighter, format=name)
    own = [path for path in Path(f"/proc/{server.process.pid}/fd").iterdir() if int(path.name) > 2]  # without stdout
    assert [path for path in own if str(path.readlink()).startswith(tempfile.gettempdir())] == []
