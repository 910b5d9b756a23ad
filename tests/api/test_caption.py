"""POST /caption on the real service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import RATE as FILE_RATE
from tests.conftest import coloured_frames
from tests.media_maker import write_video
from tests.server import RunningServer, running_server
from tests.tiny_models import write_version
from tests.tiny_writer import write_writer


def ask(client: httpx.Client, video: Path, **query: object) -> dict[str, Any]:
    answer = client.post("/caption", params=query, content=video.read_bytes())
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def two_colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.5 s of red, then 1.5 s of blue."""
    path = tmp_path_factory.mktemp("media") / "two.mp4"
    return write_video(path, coloured_frames("red", "blue", seconds=1.5), FILE_RATE)


def test_comments_are_the_models_best_first_with_their_scores(client: httpx.Client, two_colours: Path) -> None:
    answer = ask(client, two_colours, beam=3)
    assert answer["comments"] == [
        {"text": "A red film; blue from 1.5 s on.", "score": 0.9},
        {"text": "A red film.", "score": pytest.approx(0.1 / 3, abs=1e-6)},  # the third says the same
    ]
    assert answer["segments"] is None
    assert answer["shots_by"] is None
    assert answer["model"]["name"] == "tiny-writer"


def test_a_comment_is_broken_off_at_max_length(client: httpx.Client, two_colours: Path) -> None:
    answer = ask(client, two_colours, beam=1, max_length=3)
    assert [comment["text"] for comment in answer["comments"]] == ["A red film"]


def test_the_length_penalty_reaches_the_model(client: httpx.Client, two_colours: Path) -> None:
    answer = ask(client, two_colours, beam=1, length_penalty=1)
    assert answer["comments"][0]["score"] == pytest.approx(0.9**0.5, abs=1e-6)


def test_a_long_video_is_described_in_parts_whose_times_are_the_videos(
    client: httpx.Client, three_colour_video: Path
) -> None:
    """9 s, of which the model is shown 4 at once: as long as that is certain, then halves of what is left."""
    answer = ask(client, three_colour_video, timeline=True)
    assert [(one["start_seconds"], one["end_seconds"]) for one in answer["segments"]] == [(0, 4), (4, 6.5), (6.5, 9)]
    said = ["A green film; blue from 3.0 s on.", "A blue film; red from 6.0 s on.", "A red film."]
    assert [one["text"] for one in answer["segments"]] == said
    assert answer["comments"] == [{"text": " ".join(said), "score": 0.9}]


def test_a_part_of_a_video_has_times_of_the_whole(client: httpx.Client, three_colour_video: Path) -> None:
    answer = ask(client, three_colour_video, start_seconds=2, end_seconds=5)
    assert answer["comments"][0]["text"] == "A green film; blue from 3.0 s on."


@pytest.mark.parametrize("end_seconds", [5.01, 4.99, 1e-5])
def test_segments_end_with_what_was_asked_for(
    client: httpx.Client, three_colour_video: Path, end_seconds: float
) -> None:
    """The model sees a frame every quarter of a second: the last one is not whole."""
    segments = ask(client, three_colour_video, timeline=True, end_seconds=end_seconds)["segments"]
    assert segments[-1]["end_seconds"] == end_seconds


def test_a_model_that_is_shown_the_whole_at_once(client: httpx.Client, three_colour_video: Path) -> None:
    answer = ask(client, three_colour_video, model="tiny-writer-whole", timeline=True)
    assert answer["comments"][0]["text"].startswith("A green film; blue from ")
    assert answer["comments"][0]["text"].count("from") == 2
    assert len(answer["segments"]) == 3


def test_one_picture_is_a_video(client: httpx.Client, tmp_path: Path) -> None:
    path = write_video(tmp_path / "one.mp4", coloured_frames("blue")[:1], FILE_RATE)
    assert ask(client, path, beam=1)["comments"] == [{"text": "A blue film.", "score": 0.9}]


def test_events_tell_segments_on_the_way(client: httpx.Client, tmp_path: Path) -> None:
    """18 s, of which the model is shown 4 at once: the first part is described before the second is begun."""
    video = write_video(tmp_path / "long.mp4", coloured_frames("green", "blue", "red", seconds=6.0), FILE_RATE)
    with client.stream(
        "POST",
        "/caption?timeline=true",
        content=video.read_bytes(),
        headers={"Accept": "application/x-ndjson"},
    ) as answer:
        events = [json.loads(line) for line in answer.iter_lines()]
    assert [event["type"] for event in events[:-1]] == ["progress"] * (len(events) - 1)
    assert events[-1]["type"] == "result"
    told = [segment for event in events[:-1] for segment in event["segments"]]
    assert told
    assert told == events[-1]["segments"][: len(told)]


@pytest.mark.parametrize(
    "query", ["beam=0", "beam=17", "max_length=1", "length_penalty=3", "length_penalty=nan", "x=1"]
)
def test_what_cannot_be_asked(client: httpx.Client, two_colours: Path, query: str) -> None:
    answer = client.post(f"/caption?{query}", content=two_colours.read_bytes())
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_other_models_do_not_write(client: httpx.Client, two_colours: Path) -> None:
    answer = client.post("/caption?model=tiny", content=two_colours.read_bytes())
    assert answer.status_code == 404
    assert "tiny-writer" in answer.json()["detail"]


def test_a_describer_cannot_be_stepped(client: httpx.Client, two_colours: Path) -> None:
    answer = client.post("/stream/steps?model=tiny-writer", content=two_colours.read_bytes())
    assert answer.status_code == 400
    assert "as a whole" in answer.json()["detail"]


def test_what_it_is_is_listed(client: httpx.Client) -> None:
    (version,) = client.get("/models/tiny-writer").json()["versions"]
    assert version.items() >= {"task": "caption", "causal": False, "max_length": 24, "frame_rate": 4.0}.items()


class TinyShots(nn.Module):
    """`cut` where the largest colour is another than at the step before; the state is that colour."""

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(4.0))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        (_, so_far), _ = self.step(frames, lengths, self.initial_state(frames.shape[0], 0, 0))
        return so_far[torch.arange(len(lengths)), (lengths - 1).clamp(min=0)]

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return torch.full((B, 4), -1.0) * torch.tensor([1.0, 0.0, 0.0, 0.0])

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        colours = chunk.float().mean(dim=(2, 3)).argmax(dim=2).float()  # (B, T)
        now: list[Tensor] = []
        so_far: list[Tensor] = []
        for t in range(chunk.shape[1]):
            last, sums, count = state[:, :1], state[:, 1:3], state[:, 3:]
            colour = colours[:, t : t + 1]
            cut = ((colour != last) & (last >= 0)).float()
            logits = self.sure * (2.0 * torch.cat([cut, 1.0 - cut], dim=1) - 1.0)
            stepped = torch.cat([colour, sums + logits, count + 1], dim=1)
            state = torch.where((t < lengths).unsqueeze(1), stepped, state)
            now.append(logits)
            so_far.append(state[:, 1:3] / state[:, 3:].clamp(min=1.0))
        return (torch.stack(now, dim=1), torch.stack(so_far, dim=1)), state


@pytest.fixture(scope="module")
def with_camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    store = tmp_path_factory.mktemp("store")
    write_writer(store)
    folder = write_version(store, "camera", labels=("cut", "other"), module=TinyShots(), sampling="rate", rate=8.0)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["output"]["scores"], manifest["state_size"] = "sigmoid", 4
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with running_server(store) as server:
        yield server


def test_segments_are_the_shots_that_camera_finds(with_camera: RunningServer, three_colour_video: Path) -> None:
    """Green, blue and red for three seconds each; without `camera`, 8 s would be two parts of four."""
    with with_camera.client() as client:
        answer = ask(client, three_colour_video, timeline=True, start_seconds=1)
    bounds = [(one["start_seconds"], one["end_seconds"]) for one in answer["segments"]]
    assert bounds == [(1, 3), (3, 6), (6, 9)]
    assert [one["text"] for one in answer["segments"]] == ["A green film.", "A blue film.", "A red film."]
    assert answer["shots_by"]["name"] == "camera"
    assert answer["comments"][0]["text"].startswith("A green film; blue from 3.0 s on.")


def test_a_shot_that_is_all_of_the_video_is_described_once(with_camera: RunningServer, red_video: Path) -> None:
    name = 'afterframe_inferred_frames_total{model="tiny-writer",version="1"}'
    before = with_camera.metric(name)
    with with_camera.client() as client:
        answer = ask(client, red_video, timeline=True)
    (segment,) = answer["segments"]
    assert segment["text"] == answer["comments"][0]["text"] == "A red film."
    assert len(answer["comments"]) == 1  # the others of the beam say the same
    assert with_camera.metric(name) - before == 8  # 2 s, four frames each
