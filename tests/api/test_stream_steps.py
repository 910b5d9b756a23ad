"""POST /stream/steps: a stream over plain HTTP."""

import asyncio
import itertools
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from torch import Tensor

from app.api import stream_steps
from app.api.form import FormPart
from tests.conftest import RATE, coloured_frames
from tests.media_maker import moving_frames, sine, write_sound, write_video
from tests.server import RunningServer, running_server
from tests.streaming import picture
from tests.tiny_models import AroundTiny, write_version

STEP_RATE = 4.0


class SlowOnWhite(AroundTiny):
    """A classifier that takes seconds over white frames."""

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        if bool((chunk == 255).all()):
            product = torch.ones(1000, 1000)
            for _ in range(100):
                product = product @ product / 1000.0
        return self.inner.step(chunk, lengths, state)


def parts(pictures: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("picture", ("picture", data)) for data in pictures]


def scores(steps: list[dict]) -> np.ndarray:
    return np.array([step["scores"] for step in steps])


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [picture(frame) for frame in moving_frames(20)]


def test_pictures_in_any_split_give_the_same_steps(client: httpx.Client, pictures):
    whole = client.post("/stream/steps?model=tiny-rate", files=parts(pictures)).json()
    assert [step["seconds"] for step in whole["steps"]] == [number / STEP_RATE for number in range(20)]
    assert (whole["sequence"], whole["seconds"]) == (20, 5.0)
    steps, state = [], None
    for first, last in [(0, 1), (1, 8), (8, 9), (9, 20)]:
        answer = client.post(
            "/stream/steps?model=tiny-rate", files=parts(pictures[first:last]), data={"state": state} if state else {}
        ).json()
        steps += answer["steps"]
        state = answer["state"]
    assert [step["sequence"] for step in steps] == list(range(1, 21))
    np.testing.assert_allclose(scores(steps), scores(whole["steps"]), atol=1e-5)


def test_a_video_in_chunks_is_judged_like_the_whole(client: httpx.Client, tmp_path: Path):
    frames = coloured_frames("green", "red", seconds=3.0)
    whole = client.post(
        "/stream/steps?model=tiny-rate&end=true",
        content=write_video(tmp_path / "whole.mkv", frames, RATE, options={"qp": "0"}).read_bytes(),
    ).json()
    steps, state, answer = [], None, {}
    for number, first in enumerate(range(0, len(frames), 2 * RATE)):
        chunk = write_video(
            tmp_path / f"{number}.mkv", frames[first : first + 2 * RATE], RATE, options={"qp": "0"}
        ).read_bytes()
        answer = client.post(
            "/stream/steps",
            content=chunk,
            headers={"Afterframe-State": state} if state else {},
            params={"end": first + 2 * RATE >= len(frames), **({} if state else {"model": "tiny-rate"})},
        ).json()
        steps += answer["steps"]
        state = answer.get("state")
    assert state is None
    assert [step["seconds"] for step in steps] == [step["seconds"] for step in whole["steps"]]
    np.testing.assert_allclose(scores(steps), scores(whole["steps"]), atol=1e-5)
    closed = [segment for step in steps for segment in step.get("closed", [])] + answer["done"]["closed"]
    assert [(one["label"], one["start_seconds"], one["end_seconds"]) for one in closed] == [
        ("green", 0.0, 3.0),
        ("red", 3.0, 6.0),
    ]
    assert whole["media"]["video_codec"] == "h264"


def test_sound_in_chunks_that_are_no_whole_steps_is_heard_like_the_whole(client: httpx.Client, tmp_path: Path):
    """The tail that makes no whole step is in the state."""
    waveform = sine(2.0, 8000) * np.linspace(0, 1, 16000, dtype=np.float32)
    whole = client.post(
        "/stream/steps?model=tiny-describer&end=true",
        content=write_sound(tmp_path / "whole.wav", waveform, 8000).read_bytes(),
    ).json()
    steps, state, answer = [], None, {}
    edges = [0, 130, 3333, 9001, 16000]
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        chunk = write_sound(tmp_path / f"{number}.wav", waveform[first:last], 8000).read_bytes()
        answer = client.post(
            "/stream/steps",
            content=chunk,
            headers={"Afterframe-State": state} if state else {},
            params={"end": last == 16000, **({} if state else {"model": "tiny-describer"})},
        ).json()
        steps += answer["steps"]
        state = answer.get("state")
    assert len(steps) == len(whole["steps"]) == 40
    np.testing.assert_allclose(
        [step["features"] for step in steps], [step["features"] for step in whole["steps"]], atol=1e-5
    )
    np.testing.assert_allclose(answer["done"]["clip"], whole["done"]["clip"], atol=1e-5)


@pytest.mark.parametrize("seconds", [1.5, 1.0 + 1 / RATE])
def test_the_last_segment_ends_with_the_video(client: httpx.Client, tmp_path: Path, seconds: float):
    """Also where that is before the last step is over, as on the timeline."""
    video = write_video(tmp_path / "v.mkv", coloured_frames("red", seconds=seconds), RATE).read_bytes()
    query = {"model": "tiny-rate", "timeline": True}
    timeline = client.post("/classify", params=query, content=video).json()["results"][0]["segments"]
    done = client.post("/stream/steps?model=tiny-rate&end=true", content=video).json()["done"]
    assert done["closed"][-1]["end_seconds"] == timeline[-1]["end_seconds"] == pytest.approx(seconds, abs=0.01)


def test_surprise_goes_on_from_a_state(client: httpx.Client, pictures):
    """The forecast of the first frame after the token is made again from the state."""
    whole = client.post("/stream/steps?model=tiny-forecast", files=parts(pictures[:9])).json()["steps"]
    first = client.post("/stream/steps?model=tiny-forecast", files=parts(pictures[:5])).json()
    second = client.post("/stream/steps", files=parts(pictures[5:9]), data={"state": first["state"]}).json()
    assert "surprise" not in whole[0]
    found = [step.get("surprise") for step in first["steps"] + second["steps"]]
    np.testing.assert_allclose(found[1:], [step["surprise"] for step in whole[1:]], atol=1e-5)


def test_times_are_the_clients(client: httpx.Client, pictures):
    answer = client.post("/stream/steps?model=tiny", files=parts(pictures[:3]), data={"times": "[1, 1.5, 9]"}).json()
    assert [step["seconds"] for step in answer["steps"]] == [1.0, 1.5, 9.0]
    assert answer["seconds"] == 9.25


@pytest.mark.parametrize(
    ("fields", "status", "detail"),
    [
        ({"times": "[1]"}, 400, "1 times for 2 pictures"),
        ({"times": "[2, 1]"}, 400, "backwards"),
        ({"times": "soon"}, 400, "not a JSON list"),
        ({"times": "[0, NaN]"}, 400, "not a JSON list"),
        ({"times": "[0, 1e13]"}, 400, "1e12 at most"),
        ({"times": ["[0, 1]", "[1, 2]"]}, 400, "more than one field 'times'"),
        ({"state": "AAAA"}, 401, "not signed by this service"),
        ({"state": "?"}, 401, "not base64"),
        ({"state": ""}, 401, "not signed by this service"),
        ({"sate": "AAAA"}, 400, "an unknown field 'sate'; it may have file, picture, state, times"),
    ],
)
def test_what_is_wrong_is_said(client: httpx.Client, pictures, fields, status, detail):
    response = client.post("/stream/steps?model=tiny", files=parts(pictures[:2]), data=fields)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert detail in response.json()["detail"]
    assert response.headers.get("www-authenticate") == ("Afterframe-State" if status == 401 else None)


@pytest.mark.parametrize(
    ("query", "status"), [("model=nothing", 404), ("model=tiny-hearer", 400), ("model=tiny&end=perhaps", 400)]
)
def test_what_cannot_be_asked_for(client: httpx.Client, pictures, query, status):
    assert client.post(f"/stream/steps?{query}", files=parts(pictures[:1])).status_code == status


def test_the_state_of_another_model_is_a_conflict(client: httpx.Client, pictures):
    state = client.post("/stream/steps?model=tiny-rate", files=parts(pictures[:1])).json()["state"]
    response = client.post("/stream/steps?model=tiny", files=parts(pictures[:1]), data={"state": state})
    assert response.status_code == 409
    assert "tiny-rate version 1" in response.json()["detail"]


def test_another_version_is_one_of_the_states_model(client: httpx.Client, pictures):
    """Not of the default one."""
    state = client.post("/stream/steps?model=tiny-rate", files=parts(pictures[:1])).json()["state"]
    response = client.post("/stream/steps?version=7", files=parts(pictures[:1]), data={"state": state})
    assert response.status_code == 404
    assert response.json()["detail"].startswith("Model tiny-rate has no version '7'")


def test_a_damaged_picture_is_refused(client: httpx.Client, pictures):
    for bad, status in ((pictures[0][:50], 422), (b"no picture", 415)):
        response = client.post("/stream/steps?model=tiny", files=parts([pictures[0], bad]))
        assert response.status_code == status
        assert response.json()["detail"].startswith("Picture 2 of 2: ")


def test_a_form_without_anything_is_refused(client: httpx.Client):
    response = client.post("/stream/steps?model=tiny", files={"times": (None, "[1]")})
    assert response.status_code == 400
    assert "no field 'file' or 'picture'" in response.json()["detail"]


def test_a_form_has_pictures_or_a_file(client: httpx.Client, pictures):
    both = [*parts(pictures[:1]), ("file", ("video", b"x"))]
    response = client.post("/stream/steps?model=tiny", files=both)
    assert (response.status_code, "one or the other" in response.json()["detail"]) == (400, True)


def test_times_are_of_pictures(client: httpx.Client, red_video: Path):
    files = {"file": ("video", red_video.read_bytes())}
    response = client.post("/stream/steps?model=tiny", files=files, data={"times": "[1]"})
    assert (response.status_code, "no pictures" in response.json()["detail"]) == (400, True)


def test_an_empty_state_in_the_header_is_none_either(client: httpx.Client, red_video: Path):
    headers = {"Afterframe-State": ""}
    assert client.post("/stream/steps?model=tiny", content=red_video.read_bytes(), headers=headers).status_code == 401


@pytest.mark.parametrize("kind", ["pictures", "file"])
def test_metrics_and_the_log_tell_of_it(server: RunningServer, client: httpx.Client, pictures, red_video, kind):
    names = [
        'afterframe_frames_total{outcome="decoded"}',
        'afterframe_media_seconds_total{route="/stream/steps"}',
        'afterframe_realtime_factor_count{route="/stream/steps"}',
        'afterframe_stage_duration_seconds_count{route="/stream/steps",stage="upload"}',
    ]
    before = [server.metric(name) for name in names]
    files = parts(pictures[:6]) if kind == "pictures" else {"file": ("video", red_video.read_bytes())}
    response = client.post("/stream/steps?model=tiny-rate", files=files)
    line = server.line(response.headers["x-request-id"])
    frames, seconds, requests, uploads = (
        server.metric(name) - value for name, value in zip(names, before, strict=True)
    )
    steps = len(response.json()["steps"])
    assert frames >= steps
    assert seconds == pytest.approx(steps / STEP_RATE)
    assert requests == uploads == 1
    assert set(line["stages"]) == {"upload", "queue", "decode", "infer"}
    assert line["stages"]["decode"] > 0


def test_a_form_has_only_so_many_pictures_of_only_such_a_size(client: httpx.Client, pictures):
    many = client.post("/stream/steps?model=tiny", files=parts([pictures[0]] * 65))
    assert (many.status_code, "more than 64 files" in many.json()["detail"]) == (400, True)
    large = client.post("/stream/steps?model=tiny", files=parts([pictures[0], bytes(4 * 2**20 + 1)]))
    assert (large.status_code, "more than 4194304 bytes" in large.json()["detail"]) == (413, True)


def test_pictures_do_not_go_back_before_the_state(client: httpx.Client, pictures):
    first = client.post("/stream/steps?model=tiny", files=parts(pictures[:2]), data={"times": "[100, 101]"}).json()
    for times, status in (("[101]", 200), ("[100.5]", 400)):
        response = client.post(
            "/stream/steps", files=parts(pictures[2:3]), data={"state": first["state"], "times": times}
        )
        assert response.status_code == status


def test_large_pictures_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stream_steps, "MAX_READ_BYTES", 10)
    content = b"aaaabbbbccccdddddddddddd"
    edges = [0, 4, 8, 12, 24]
    with (tmp_path / "spool").open("w+b", buffering=0) as file:
        file.write(content)
        spooled = stream_steps._SpooledPictures(
            file.fileno(), [FormPart("picture", *edge) for edge in itertools.pairwise(edges)]
        )

        async def read_all() -> list[list[bytes]]:
            found = []
            while (done := sum(map(len, found))) < len(spooled):
                found.append(await spooled.read(done, 16))
            return found

        assert asyncio.run(read_all()) == [[b"aaaa", b"bbbb"], [b"cccc"], [b"d" * 12]]


def test_a_long_sound_has_too_many_numbers_for_one_answer(store: Path, tmp_path: Path):
    sound = write_sound(tmp_path / "sound.wav", sine(20.0, 8000), 8000).read_bytes()
    with running_server(store, max_feature_values=100) as server, server.client() as client:
        response = client.post("/stream/steps?model=tiny-describer", content=sound)
    assert (response.status_code, "100 numbers" in response.json()["detail"]) == (422, True)


def test_steps_end_at_the_deadline(tmp_path: Path):
    write_version(tmp_path, "slow", module=SlowOnWhite())
    black, white = (picture(np.full((24, 32, 3), level, np.uint8)) for level in (0, 255))
    with running_server(tmp_path, deadline_seconds=1) as server, server.client() as client:
        assert client.post("/stream/steps?model=slow", files=parts([black])).status_code == 200
        response = client.post("/stream/steps?model=slow", files=parts([white]))
        assert response.status_code == 504
        assert response.headers["content-type"] == "application/problem+json"
