"""Encoded chunks over the WebSocket: the same answers as for the file, each as soon as it is known."""

import time

import numpy as np
import pytest

from tests.conftest import RATE, coloured_frames
from tests.media_maker import moving_frames, sine, write_sound, write_video
from tests.streaming import streaming

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def chunks(data: bytes, count: int) -> list[bytes]:
    size = -(-len(data) // count)
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("ts", "libx264", {}),
        ("webm", "libvpx", {}),
        ("mkv", "libx264", {}),
        ("mp4", "libx264", {"container_options": FRAGMENTED, "options": {"g": "6"}}),
    ],
)
def test_a_video_in_parts_is_judged_like_the_file(live, tmp_path, name, codec, options):
    frames = coloured_frames("green", "red", seconds=2.0)
    frames = np.concatenate([frames, frames[-1:]])  # a twelfth of a second of the last step's quarter
    video = write_video(tmp_path / f"video.{name}", frames, RATE, codec, **options)
    data = video.read_bytes()
    with live.client() as http, streaming(live, model="tiny-rate") as client:
        whole = http.post("/stream/steps?model=tiny-rate&end=true", content=data).json()
        client.start(kind="encoded")
        for part in chunks(data, 13):
            client.send(part)
        steps, done = client.end()
    assert [step["seconds"] for step in steps] == [step["seconds"] for step in whole["steps"]]
    assert len(steps) == 17
    np.testing.assert_allclose(
        [step["scores"] for step in steps], [step["scores"] for step in whole["steps"]], atol=1e-5
    )
    assert done["closed"] == whole["done"]["closed"]
    assert done["closed"][-1]["end_seconds"] == pytest.approx(49 / RATE, abs=1e-3)
    assert [label["label"] for label in done["labels"]] == [label["label"] for label in whole["done"]["labels"]]


def test_answers_come_while_the_video_is_still_being_sent(live, tmp_path):
    video = write_video(tmp_path / "video.ts", moving_frames(96, 160, 120), RATE, options={"g": "12"})
    parts = chunks(video.read_bytes(), 8)
    with streaming(live, model="tiny-rate") as client:
        client.start(kind="encoded")
        for part in parts[:6]:
            client.send(part)
        early = client.hear_steps(12)  # of 32: the last third has not been sent
        for part in parts[6:]:
            client.send(part)
        late, _ = client.end()
    assert [step["sequence"] for step in early + late] == list(range(1, 33))


@pytest.mark.parametrize(("name", "codec"), [("wav", "pcm_s16le"), ("ogg", "libopus")])
def test_sound_in_parts_is_heard_like_the_file(live, tmp_path, name, codec):
    waveform = np.concatenate([sine(1.5, 48000, volume=0.05), sine(1.5, 48000, volume=0.6)])
    data = write_sound(tmp_path / f"sound.{name}", waveform, 48000, codec).read_bytes()
    with live.client() as http, streaming(live, model="tiny-listener") as client:
        whole = http.post("/stream/steps?model=tiny-listener&end=true", content=data).json()
        client.start(kind="encoded")
        for part in chunks(data, 9):
            client.send(part)
        steps, done = client.end()
    assert len(steps) == len(whole["steps"]) >= 59  # of 50 ms
    np.testing.assert_allclose(
        [step["scores"] for step in steps], [step["scores"] for step in whole["steps"]], atol=1e-5
    )
    assert done["labels"][0]["label"] == whole["done"]["labels"][0]["label"]


def test_features_come_per_step_and_in_the_end_for_all(live, tmp_path):
    """Also where the last step is not filled. As another sound may follow all the same, the state is that before it."""
    waveform = sine(2.03, 8000)
    data = write_sound(tmp_path / "sound.wav", waveform, 8000).read_bytes()
    halves = [write_sound(tmp_path / "half.wav", half, 8000).read_bytes() for half in np.split(waveform, [8100])]
    with live.client() as http:
        expected = http.post("/features?model=tiny-describer&level=steps", content=data).json()
        whole = http.post("/stream/steps?model=tiny-describer&end=true", content=data).json()
    with streaming(live, model="tiny-describer") as client:
        client.start(kind="encoded")
        for part in chunks(data, 5):
            client.send(part)
        steps, done = client.end()
    with streaming(live, model="tiny-describer", state="true") as client:
        client.start(kind="encoded")
        client.send(halves[0])
        first, halfway = client.end()
    with streaming(live) as client:
        client.start(kind="encoded", state=halfway["state"])
        client.send(halves[1])
        second, done_after = client.end()
    assert len(expected["steps"]) == 41
    for found, end in (
        (steps, done),
        (whole["steps"], whole["done"]),
        ([*first[:-1], *second], done_after),
    ):
        np.testing.assert_allclose([step["features"] for step in found], expected["steps"], atol=1e-5)
        np.testing.assert_allclose(end["clip"], expected["clip"], atol=1e-5)


def test_a_forecaster_tells_the_surprise(live, tmp_path):
    frames = np.concatenate([np.full((20, 48, 64, 3), 40, np.uint8), np.full((10, 48, 64, 3), 200, np.uint8)])
    data = write_video(tmp_path / "video.ts", frames, 10).read_bytes()
    with live.client() as http, streaming(live, model="tiny-forecast") as client:
        expected = http.post("/predict?model=tiny-forecast&horizon=1&surprise=true", content=data).json()["surprise"]
        client.start(kind="encoded")
        client.send(data)
        steps, _ = client.end()
    assert "surprise" not in steps[0]
    scores = expected["scores"] if isinstance(expected, dict) else expected
    found = [(step["seconds"], step["surprise"]) for step in steps[1:]]
    np.testing.assert_allclose(found, [(one["time_seconds"], one["score"]) for one in scores], atol=1e-5)


def test_an_encoded_stream_goes_on_after_a_cut(live, tmp_path):
    data = write_video(tmp_path / "video.ts", moving_frames(96, 160, 120), RATE).read_bytes()
    with streaming(live, model="tiny-rate") as client:
        client.start(kind="encoded")
        client.send(data)
        whole, _ = client.end()
    with streaming(live, model="tiny-rate") as client:
        session = client.start(kind="encoded")["session"]
        for part in chunks(data, 8)[:6]:
            client.send(part)
        known = client.hear_steps(5)
        client.cut()
    with streaming(live) as client:
        received = client.start(session=session, acknowledged=5)["received"]
        client.send(data[received:])
        rest, _ = client.end()
    steps = [*known, *rest]
    assert [step["sequence"] for step in steps] == list(range(1, 33))
    np.testing.assert_allclose([step["scores"] for step in steps], [step["scores"] for step in whole], atol=1e-5)


def test_decoders_of_streams_are_limited_and_given_back(live, tmp_path):
    with streaming(live, model="tiny") as first, streaming(live, model="tiny") as second:
        assert first.start(kind="encoded")["type"] == "welcome"
        closing = second.start(kind="encoded")
        assert (closing["code"], closing["retry_after_seconds"]) == (1013, 5)
        with live.client() as http:
            assert "afterframe_live_decoders 1.0" in http.get("/metrics").text
    end = time.monotonic() + 10
    while True:  # those two have left, which the service is told as soon as it listens
        with streaming(live, model="tiny") as third:
            if third.start(kind="encoded")["type"] == "welcome":
                break
            assert time.monotonic() < end


@pytest.mark.parametrize(
    ("data", "code"), [(b"This is a text, and no video at all. " * 100, 4415), (b"\x1aE\xdf\xa3" + b"\0" * 5000, 4422)]
)
def test_what_is_no_video_closes_the_session(live, data, code):
    with streaming(live, model="tiny") as client:
        client.start(kind="encoded")
        client.send(data)
        client.say("end")
        closing = client.hear()
        assert (closing["type"], closing["code"]) == ("closing", code)
        assert client.close_code() == code


def test_pictures_and_parts_do_not_mix(live):
    with streaming(live, model="tiny") as client:
        client.start(kind="encoded")
        client.say("rewind", state="AAAA")
        assert client.hear()["code"] == 4401
