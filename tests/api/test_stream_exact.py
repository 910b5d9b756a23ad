"""Every shipped model that can step: any way through a stream equals one `forward` of all of it.

On generated pictures and sound each time, on real clips where they are at hand, in the slow tests.
"""

import base64
import functools
import itertools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from app.media.decode import read_media
from app.media.request import FrameChunk, MediaRequest, WaveformChunk, WaveformSpec
from app.models.manifest import ClassifyOutput, read_manifest
from app.models.store import ServedModel, list_names, list_versions, load_version
from app.pipelines.reading import frame_spec
from app.pipelines.scores import to_scores
from tests.media_maker import moving_frames, write_sound
from tests.server import RunningServer, running_server
from tests.streaming import KEYS, picture, streaming

STORE = Path(__file__).parents[2] / "model_store"
NUM_FRAMES = 35
HALF = 17
NUM_SOUND_STEPS = 50
TOLERANCE = 1e-5  # the contract's; answers are rounded to six digits
CHUNK = 7

GENERATED = "generated"
DATA = Path(__file__).parents[2].parent / "shared/data"
CLIPS = (
    "clips/decord__flipping_a_pancake.mkv",
    "clips/mmaction2__demo.mp4",
    "clips/moviepy__chaplin.mp4",
    "clips/torchcodec__nasa_13013.mp4",
)
SOUNDS = ("clips/decord__flipping_a_pancake.mkv", "clips/media__bear.flac", "clips/torchcodec__nasa_13013.mp4")


def sources(names: tuple[str, ...]) -> list[Any]:
    """Parameters of a test: what is generated, and real files."""
    absent = pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data")
    return [GENERATED, *(pytest.param(name, marks=[pytest.mark.slow, absent]) for name in names)]


def shipped(task: str, media: str) -> list[str]:
    """The newest version of each model of `task` that can step over `media`."""
    names = list_names(STORE) if STORE.is_dir() else []
    manifests = {name: read_manifest(STORE / name / list_versions(STORE, name)[-1] / "manifest.json") for name in names}
    return [
        name for name, found in manifests.items() if found.causal and (found.task, found.input.media) == (task, media)
    ]


@functools.cache
def load(name: str) -> ServedModel:
    return load_version(STORE / name / list_versions(STORE, name)[-1])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The servers need the cores: OpenMP's threads would fight them for these, and each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[RunningServer]]:
    """Two processes that know nothing of each other but the key. A session whose client was cut off takes its place in
    one for half a minute."""
    with (
        running_server(STORE, state_keys=KEYS, max_sessions=256) as first,
        running_server(STORE, state_keys=KEYS, max_sessions=256, inference_threads=1) as second,
    ):
        yield [first, second]


def frames_for(model: ServedModel, source: str = GENERATED) -> np.ndarray:
    """(T, H, W, 3) at the model's own size, so that nothing is scaled; of a clip, at the model's rate."""
    wanted = model.manifest.input
    if source != GENERATED:
        assert wanted.rate is not None
        request = MediaRequest(frames=(frame_spec(wanted, rate=wanted.rate, chunk_length=NUM_FRAMES),))
        with (DATA / source).open("rb") as file:
            chunks = (event for event in read_media(file, request) if isinstance(event, FrameChunk))
            return next(chunks).frames
    width, height = (wanted.width, wanted.height) if isinstance(wanted.width, int) else (64, 48)
    assert isinstance(width, int)
    assert isinstance(height, int)
    return moving_frames(NUM_FRAMES, width, height)


def over_http(clients: list[httpx.Client], name: str, pictures: list[bytes]) -> list[dict]:
    """Chunks of seven, each to the other replica, with the token of the answer before."""
    steps, state = [], None
    for client, first in zip(itertools.cycle(clients), range(0, len(pictures), CHUNK), strict=False):
        answer = client.post(
            f"/stream/steps?model={name}",
            files=[("picture", ("picture", data)) for data in pictures[first : first + CHUNK]],
            data={"state": state} if state else {},
        )
        assert answer.status_code == 200, answer.text
        steps += answer.json()["steps"]
        state = answer.json()["state"]
    return steps


def over_socket(replicas: list[RunningServer], name: str, pictures: list[bytes], rate: float) -> list[dict]:
    """Frame by frame, with a cut, a fork and a change of the process on the way."""

    def show(client, first: int, last: int) -> list[dict]:
        found = []
        for number in range(first, last):
            client.show(number / rate, pictures[number])
            found += client.hear_steps(1)
        return found

    with streaming(replicas[0], model=name, state="true") as client:
        session = client.start()["session"]
        steps = show(client, 0, 11)
        client.cut()
    with streaming(replicas[0], state="true") as client:
        client.start(session=session, acknowledged=steps[-1]["sequence"])
        steps += show(client, 11, 17)
    token = steps[-1]["state"]
    with streaming(replicas[1], state="true") as fork:
        fork.start(state=token)
        show(fork, 20, 24)  # another future
    with streaming(replicas[1], state="true") as client:
        client.start(state=token)
        return [*steps, *show(client, 17, len(pictures))]


def judged(model: ServedModel, frames: np.ndarray) -> dict[str, np.ndarray]:
    """What one `forward` makes of all frames, and one `step` of each: (N, K) scores by field of the last N steps."""
    output = model.manifest.output
    assert isinstance(output, ClassifyOutput)
    clip, lengths = torch.from_numpy(frames)[None], torch.tensor([len(frames)])
    with torch.inference_mode():
        whole = model.module(clip, lengths)
        stepped, _ = model.module.step(clip, lengths, model.module.initial_state(1, *frames.shape[1:3]))
    now, so_far = (to_scores(logits[0].numpy(), output.scores) for logits in stepped)
    np.testing.assert_allclose(so_far[-1], to_scores(whole[0].numpy(), output.scores), rtol=0, atol=TOLERANCE)
    late = output.delay_steps  # steps at the beginning that answer nothing yet
    if late:  # a stream does not count those either; the labels of the one such model do not compete
        so_far[late:] = now[late:].cumsum(axis=0) / np.arange(1, len(now) - late + 1)[:, None]
    return {"so_far": so_far[late:], "scores": now[late:]}


def compared(model: ServedModel, frames: np.ndarray) -> dict[str, np.ndarray]:
    """(N,) how far each frame but the first is from its forecast, from one `step` over all of them."""
    clip = torch.from_numpy(frames)
    with torch.inference_mode():
        state = model.module.initial_state(1, *frames.shape[1:3])
        forecasts, _ = model.module.step(clip[None], torch.tensor([len(clip)]), state)
    errors = forecasts[0, :-1].double() - clip[1:].double() / 255
    return {"surprise": errors.square().mean(dim=(1, 2, 3)).sqrt().numpy()}


def expected_of(model: ServedModel, frames: np.ndarray) -> dict[str, np.ndarray]:
    return judged(model, frames) if model.manifest.task == "classify" else compared(model, frames)


def check_same(steps: list[dict], expected: dict[str, np.ndarray]) -> None:
    for field, values in expected.items():
        found = np.array([step[field] for step in steps[-len(values) :]])
        np.testing.assert_allclose(found, values, rtol=0, atol=TOLERANCE)


def rate_of(model: ServedModel) -> float:
    assert model.manifest.input.rate is not None
    return model.manifest.input.rate


WATCHING = shipped("classify", "video") + shipped("predict", "video")


@pytest.mark.parametrize("source", sources(CLIPS))
@pytest.mark.parametrize("name", WATCHING)
def test_any_way_through_frames_comes_to_what_one_pass_says(replicas, name, source):
    model = load(name)
    frames = frames_for(model, source)
    expected, pictures = expected_of(model, frames), [picture(frame) for frame in frames]
    with replicas[0].client() as first, replicas[1].client() as second:
        chunks = over_http([first, second], name, pictures)
    singles = over_socket(replicas, name, pictures, rate_of(model))
    for steps in (chunks, singles):
        assert [step["sequence"] for step in steps] == list(range(1, NUM_FRAMES + 1))
        check_same(steps, expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data")
def test_streams_of_real_clips_go_on_after_their_process_was_killed():
    """Each model over each clip, one session after the other; then the process is killed and another one started."""
    ways = [(name, clip) for name in WATCHING for clip in CLIPS]
    before: dict[tuple[str, str], list[dict]] = {}
    with running_server(STORE, state_keys=KEYS) as killed:
        for name, clip in ways:
            pictures = [picture(frame) for frame in frames_for(load(name), clip)]
            with streaming(killed, model=name, state="true") as client:
                client.start()
                for number in range(HALF):
                    client.show(number / rate_of(load(name)), pictures[number])
                before[name, clip] = client.hear_steps(HALF)
        killed.process.kill()
        killed.process.wait()
    with running_server(STORE, state_keys=KEYS) as started:
        for name, clip in ways:
            model, frames = load(name), frames_for(load(name), clip)
            for _ in range(2):  # the same token again
                with streaming(started) as client:
                    client.start(state=before[name, clip][-1]["state"])
                    for number in range(HALF, NUM_FRAMES):
                        client.show(number / rate_of(model), picture(frames[number]))
                    steps, _ = client.end()
                check_same([*before[name, clip], *steps], expected_of(model, frames))


def waveform_for(model: ServedModel, source: str) -> np.ndarray:
    """(N,) whole steps, as 16-bit sound keeps them."""
    wanted = model.manifest.input
    assert wanted.sample_rate is not None
    assert wanted.step_samples is not None
    length = NUM_SOUND_STEPS * wanted.step_samples
    if source == GENERATED:
        waveform = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    else:
        request = MediaRequest(waveforms=(WaveformSpec(wanted.sample_rate, length),))
        with (DATA / source).open("rb") as file:
            waveform = next(event.waveform for event in read_media(file, request) if isinstance(event, WaveformChunk))
    return np.clip(np.round(waveform * 32768), -32768, 32767) / np.float32(32768)


@pytest.mark.parametrize("source", sources(SOUNDS))
@pytest.mark.parametrize("name", shipped("features", "audio"))
def test_features_of_parts_are_those_of_one_forward(replicas, name, source, tmp_path):
    model = load(name)
    wanted = model.manifest.input
    assert wanted.sample_rate is not None
    waveform = waveform_for(model, source)
    with torch.inference_mode():
        clip, steps, _ = model.module(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    found, state, answer = [], None, {}
    edges = [0, len(waveform) // 3 + 11, len(waveform) // 2, len(waveform)]
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        sound = write_sound(tmp_path / f"{number}.wav", waveform[first:last], wanted.sample_rate).read_bytes()
        with replicas[number % 2].client() as client:
            answer = client.post(
                "/stream/steps",
                files={"file": sound},
                data={"state": state} if state else {},
                params={"model": name, "end": last == len(waveform)},
            ).json()
        found += answer["steps"]
        state = answer.get("state")
    np.testing.assert_allclose([step["features"] for step in found], steps[0].numpy(), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(answer["done"]["clip"], clip[0].numpy(), rtol=0, atol=TOLERANCE)


def test_tokens_are_as_large_as_the_state(replicas):
    """Kilobytes: the state, the segments that are open, and less than a kilobyte around them."""
    for name in shipped("classify", "video"):
        model = load(name)
        with replicas[0].client() as client:
            answer = client.post(f"/stream/steps?model={name}", files={"picture": picture(frames_for(model)[0])}).json()
        size = len(base64.b64decode(answer["state"]))
        assert 4 * model.manifest.state_size < size < 4 * model.manifest.state_size + 2048


@pytest.mark.parametrize("num_clients", [24, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_clients_cut_at_any_moment_and_resumed_elsewhere_end_as_if_never_cut(replicas, num_clients):
    """Eight at a time, each cut off after a number of answers of its own, in the middle of what it sends."""
    name = "actions"
    model = load(name)
    rate = rate_of(model)
    pictures = [picture(frame) for frame in frames_for(model)]

    def follow(client, first: int) -> tuple[list[dict], dict]:
        for number in range(first, len(pictures)):
            client.show(number / rate, pictures[number])
        return client.end()

    def uncut() -> tuple[list[dict], dict]:
        with streaming(replicas[0], model=name) as client:
            client.start()
            return follow(client, 0)

    def cut(seed: int) -> tuple[list[dict], dict]:
        chance = random.Random(seed)
        here, there = chance.sample(replicas, 2)
        with streaming(here, model=name, state="true") as client:
            client.start(max_in_flight=chance.choice([1, 4, 16]))
            for number in range(chance.randint(9, 30)):
                client.show(number / rate, pictures[number])
            steps = [*client.hear_steps(1), *client.hear_steps(chance.randint(0, 7))]
            while "state" not in steps[-1]:  # judged in one step with others: the last of them has it
                steps += client.hear_steps(1)
            client.cut()
        with streaming(there) as client:
            assert client.start(state=steps[-1]["state"])["sequence"] == steps[-1]["sequence"]
            rest, done = follow(client, steps[-1]["picture"] + 1)
        return [*steps, *rest], done

    whole, whole_done = uncut()
    with ThreadPoolExecutor(8) as clients:
        results = list(clients.map(cut, range(num_clients)))
    for steps, done in results:
        assert [step["sequence"] for step in steps] == list(range(1, NUM_FRAMES + 1))
        for field in ("scores", "smoothed", "so_far"):
            found, expected = ([step[field] for step in some] for some in (steps, whole))
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
        assert [step.get("closed") for step in steps] == [step.get("closed") for step in whole]
        assert [one["label"] for one in done["labels"]] == [one["label"] for one in whole_done["labels"]]
        scores, expected = ([one["score"] for one in some["labels"]] for some in (done, whole_done))
        np.testing.assert_allclose(scores, expected, rtol=0, atol=TOLERANCE)
