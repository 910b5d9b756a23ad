"""POST /classify with models that listen, alone and beside models that see."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import RATE, coloured_frames
from tests.media_maker import sine, write_sound, write_video
from tests.tiny_listeners import MAX_SAMPLES, SAMPLE_RATE, STEP_SAMPLES

LOUD, QUIET = 0.6, 0.05  # volumes: loudness 0.42 and 0.035, with 0.2 between


def classify(client: httpx.Client, upload: Path, **query: object) -> dict[str, object]:
    response = client.post("/classify", params=query, content=upload.read_bytes())
    assert response.status_code == 200, response.text
    return response.json()


def tones(*volumes: float, seconds: float = 1.0, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    return np.concatenate([sine(seconds, sample_rate, 400.0, volume) for volume in volumes])


@pytest.fixture(scope="module")
def loud_then_quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four loud seconds, then six quiet ones."""
    path = tmp_path_factory.mktemp("media") / "sound.wav"
    return write_sound(path, tones(*[LOUD] * 4, *[QUIET] * 6), SAMPLE_RATE)


def test_a_model_that_steps(client: httpx.Client, loud_then_quiet: Path) -> None:
    (result,) = classify(client, loud_then_quiet, model="tiny-listener", timeline=True)["results"]
    assert [entry["label"] for entry in result["labels"]] == ["quiet", "loud"]
    assert result["frames_used"] == 10 * SAMPLE_RATE // STEP_SAMPLES
    assert result["sampling"] == "exact"
    first, second = result["segments"]
    assert (first["label"], second["label"]) == ("loud", "quiet")
    assert first["start_seconds"] == 0
    assert first["end_seconds"] == second["start_seconds"] == pytest.approx(4.0, abs=0.1)  # two steps
    assert second["end_seconds"] == pytest.approx(10.0)


def test_a_model_that_cannot_step_hears_parts(client: httpx.Client, loud_then_quiet: Path) -> None:
    (result,) = classify(client, loud_then_quiet, model="tiny-hearer", timeline=True)["results"]
    assert result["labels"][0]["label"] == "quiet"
    assert result["frames_used"] == 10 * SAMPLE_RATE // MAX_SAMPLES
    assert result["model"]["license"] == "CC-BY-NC-SA-4.0"
    segments = [(entry["start_seconds"], entry["end_seconds"], entry["label"]) for entry in result["segments"]]
    assert segments == [(0.0, 4.0, "loud"), (4.0, 10.0, "quiet")]
    (again,) = classify(client, loud_then_quiet, model="tiny-hearer")["results"]
    assert again["segments"] is None
    assert again["labels"] == result["labels"]


def test_parts_count_by_their_length(client: httpx.Client, tmp_path: Path) -> None:
    """0.6 s of a quiet tail weigh 0.6 of a part; 0.3 s are left out."""
    logit = 40 * LOUD / 2**0.5 - 8, 40 * QUIET / 2**0.5 - 8  # of `loud`, the other one is its negative
    long = write_sound(tmp_path / "long.wav", tones(LOUD, LOUD, QUIET)[: round(2.6 * SAMPLE_RATE)], SAMPLE_RATE)
    (result,) = classify(client, long, model="tiny-hearer")["results"]
    mean = (2 * logit[0] + 0.6 * logit[1]) / 2.6
    assert result["frames_used"] == 3
    assert result["labels"][0]["score"] == pytest.approx(1 / (1 + np.exp(-2 * mean)), abs=1e-3)  # 16-bit samples
    short = write_sound(tmp_path / "short.wav", tones(LOUD, LOUD, QUIET)[: round(2.3 * SAMPLE_RATE)], SAMPLE_RATE)
    (result,) = classify(client, short, model="tiny-hearer", timeline=True)["results"]
    assert result["frames_used"] == 2
    assert result["segments"][-1]["end_seconds"] == pytest.approx(2.3)


def test_a_click_is_heard(client: httpx.Client, tmp_path: Path) -> None:
    click = write_sound(tmp_path / "click.wav", tones(LOUD, seconds=0.02), SAMPLE_RATE)
    hearer, listener = classify(client, click, model=["tiny-hearer", "tiny-listener"], timeline=True)["results"]
    assert hearer["labels"][0]["label"] == "loud"
    assert hearer["frames_used"] == listener["frames_used"] == 1
    assert listener["segments"][0]["end_seconds"] == pytest.approx(0.02)


def test_seeing_and_listening_share_a_decode(client: httpx.Client, tmp_path: Path) -> None:
    """The sound goes on for a second after the picture."""
    sound = tones(LOUD, QUIET, QUIET, sample_rate=44_100)
    video = write_video(
        tmp_path / "v.mp4", coloured_frames("green"), RATE, waveform=sound, sample_rate=44_100, sound_codec="aac"
    )
    both = classify(client, video, model=["tiny-listener", "tiny-rate", "tiny", "tiny-hearer"], timeline=True)
    listener, rate, clip, hearer = both["results"]
    assert [result["labels"][0]["label"] for result in (rate, clip)] == ["green", "green"]
    assert [segment["label"] for segment in listener["segments"]] == ["loud", "quiet"]
    assert hearer["segments"][-1]["end_seconds"] == pytest.approx(3.0, abs=0.1)  # AAC adds up to two frames
    for name, result in (("tiny-rate", rate), ("tiny", clip), ("tiny-listener", listener), ("tiny-hearer", hearer)):
        (alone,) = classify(client, video, model=name, timeline=True)["results"]
        assert alone == result


def test_a_part(client: httpx.Client, loud_then_quiet: Path) -> None:
    query = {"model": "tiny-hearer", "start_seconds": 1.0, "end_seconds": 3.0, "timeline": True}
    (result,) = classify(client, loud_then_quiet, **query)["results"]
    assert result["labels"][0]["label"] == "loud"
    (segment,) = result["segments"]
    assert (segment["start_seconds"], segment["end_seconds"]) == pytest.approx((1.0, 3.0))


@pytest.mark.parametrize("model", [["tiny-listener"], ["tiny-hearer"], ["tiny", "tiny-hearer"]])
def test_a_model_that_listens_needs_a_sound(client: httpx.Client, red_video: Path, model: list[str]) -> None:
    response = client.post("/classify", params={"model": model}, content=red_video.read_bytes())
    assert response.status_code == 422
    assert "no sound" in response.json()["detail"]


@pytest.mark.parametrize("model", [["tiny"], ["tiny-rate"], ["tiny", "tiny-hearer"]])
def test_a_model_that_sees_needs_a_picture(client: httpx.Client, loud_then_quiet: Path, model: list[str]) -> None:
    response = client.post("/classify", params={"model": model}, content=loud_then_quiet.read_bytes())
    assert response.status_code == 422
    assert "no moving picture" in response.json()["detail"]


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("flac", "flac"), ("ogg", "libopus")])
def test_files_of_sound_alone(client: httpx.Client, tmp_path: Path, suffix: str, codec: str) -> None:
    sound = write_sound(tmp_path / f"s.{suffix}", tones(LOUD, LOUD, sample_rate=48_000), 48_000, codec)
    (result,) = classify(client, sound, model="tiny-hearer")["results"]
    assert result["labels"][0]["label"] == "loud"
