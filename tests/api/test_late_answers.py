"""Models that answer some steps late: the answers speak of the moments they are about."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import coloured_frames
from tests.media_maker import write_video
from tests.server import running_server
from tests.streaming import picture
from tests.tiny_late import RATE, write_late

DELAY = 2


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = tmp_path_factory.mktemp("late-store")
    write_late(store, 0)
    write_late(store, DELAY)
    with running_server(store, default_model_classify=f"tiny-late-{DELAY}") as server, server.client() as client:
        yield client


def results(service: httpx.Client, video: bytes) -> list[dict]:
    query = {"model": ["tiny-late-0", f"tiny-late-{DELAY}"], "timeline": True}
    return service.post("/classify", params=query, content=video).raise_for_status().json()["results"]


@pytest.mark.parametrize("seconds", [3.0, 0.25, 0.0833])
def test_a_file_is_judged_to_its_end_as_if_the_model_were_not_late(
    service: httpx.Client, tmp_path: Path, seconds: float
) -> None:
    frames = coloured_frames("green", "red", seconds=seconds)
    video = write_video(tmp_path / "video.mkv", frames, 12).read_bytes()
    prompt, late = results(service, video)

    assert late["segments"] == prompt["segments"] != []
    assert late["labels"] == prompt["labels"]
    assert late["frames_used"] == prompt["frames_used"]


def test_a_label_that_need_not_last_is_a_segment_of_one_step(service: httpx.Client, tmp_path: Path) -> None:
    frames = np.concatenate([coloured_frames("green"), coloured_frames("blue", seconds=0.25), coloured_frames("green")])
    _, late = results(service, write_video(tmp_path / "flash.mkv", frames, 12).read_bytes())

    assert [(one["label"], one["start_seconds"], one["end_seconds"]) for one in late["segments"]] == [
        ("green", 0.0, 4.25),
        ("blue", 2.0, 2.25),
    ]
    shares = {one["label"]: one["score"] for one in late["labels"]}
    assert shares["blue"] == pytest.approx(1 / 17, abs=0.01)  # of 17 steps one; scores are not quite 0 and 1
    assert shares["green"] == pytest.approx(16 / 17, abs=0.02)


def test_a_stream_says_which_moment_it_speaks_of_across_states(service: httpx.Client) -> None:
    frames = np.concatenate([coloured_frames("green", seconds=1 / 3), coloured_frames("red", seconds=1 / 3)])
    pictures = [("picture", ("picture", picture(frame))) for frame in frames]
    query, whole = {"model": f"tiny-late-{DELAY}"}, []
    state: dict[str, str] = {}
    for first, last in [(0, 1), (1, 5), (5, 8)]:
        query["end"] = str(last == len(frames))
        answer = service.post("/stream/steps", params=query, files=pictures[first:last], data=state).json()
        whole += answer["steps"]
        state = {"state": answer.get("state", "")}

    assert all("scores" not in step and "about_seconds" not in step for step in whole[:DELAY])
    assert [step["about_seconds"] for step in whole[DELAY:]] == [number / RATE for number in range(8 - DELAY)]
    said = [answer["labels"][int(np.argmax(step["scores"]))] for step in whole[DELAY:]]
    assert said == ["green"] * 4 + ["red"] * 2

    scores = np.array([step["scores"] for step in whole[DELAY:]])
    so_far = scores.cumsum(axis=0) / np.arange(1, len(scores) + 1)[:, None]  # the shares of time: labels do not compete
    np.testing.assert_allclose([step["so_far"] for step in whole[DELAY:]], so_far, rtol=0, atol=1e-5)
    last = {one["label"]: one["score"] for one in answer["done"]["labels"]}
    assert [last[label] for label in answer["labels"]] == whole[-1]["so_far"]


def test_a_stream_of_no_answered_moment_has_no_labels(service: httpx.Client) -> None:
    frames = coloured_frames("green", seconds=DELAY / 12)
    pictures = [("picture", ("picture", picture(frame))) for frame in frames]
    query = {"model": f"tiny-late-{DELAY}", "end": "true"}
    answer = service.post("/stream/steps", params=query, files=pictures).raise_for_status().json()
    assert len(answer["steps"]) == DELAY
    assert "labels" not in answer["done"]
