"""POST /features over HTTP. The tiny describer's numbers are loudness, so that what it must answer can be said."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from app.models.store import load_version
from tests.media_maker import moving_frames, sine, write_sound, write_video
from tests.server import RunningServer, running_server
from tests.tiny_listeners import NUM_MELS, SAMPLE_RATE, STEP_SAMPLES

STEP_SECONDS = STEP_SAMPLES / SAMPLE_RATE
PCM_LEVEL = 1e-3  # loudness may be off by this after 16-bit samples and the resampler's edges


def features(client: httpx.Client, sound: Path, accept: str = "*/*", **query: object) -> httpx.Response:
    response = client.post("/features", params=query, content=sound.read_bytes(), headers={"accept": accept})
    assert response.status_code == 200, response.text
    return response


@pytest.fixture(scope="module")
def swelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds: each second as loud as 0.1, 0.2, 0.3 and 0.4; at the model's own rate."""
    path = tmp_path_factory.mktemp("media") / "swelling.wav"
    tones = [sine(1.0, SAMPLE_RATE, 400.0, volume * 2**0.5) for volume in (0.1, 0.2, 0.3, 0.4)]
    return write_sound(path, np.concatenate(tones), SAMPLE_RATE)


def test_a_vector_for_the_clip(client: httpx.Client, swelling: Path) -> None:
    answer = features(client, swelling).json()
    assert answer["model"]["name"] == "tiny-describer"
    assert answer["dimension"] == len(answer["clip"]) == 3
    assert answer["clip"][0] == pytest.approx(0.25, abs=PCM_LEVEL)
    assert answer["clip"][2] == 80  # steps of 50 ms
    assert (answer["start_seconds"], answer["end_seconds"]) == pytest.approx((0.0, 4.0))
    assert answer["steps"] is answer["windows"] is answer["log_mel"] is None
    assert answer["media"]["audio_codec"] == "pcm_s16le"
    assert answer["media"]["video_codec"] is None


def test_a_vector_for_each_step(client: httpx.Client, swelling: Path) -> None:
    answer = features(client, swelling, level="steps").json()
    steps = np.array(answer["steps"])
    assert steps.shape == (80, answer["step_dimension"])
    assert answer["hop_seconds"] == STEP_SECONDS
    assert steps[:, 0] == pytest.approx(np.repeat([0.1, 0.2, 0.3, 0.4], 20), abs=PCM_LEVEL)
    assert steps[19, 1] == pytest.approx(0.1, abs=PCM_LEVEL)  # the state has settled, and is carried


def test_windows_are_means_of_their_steps(client: httpx.Client, swelling: Path) -> None:
    steps = np.array(features(client, swelling, level="steps").json()["steps"])
    windows = features(client, swelling, level="windows", window_seconds=1.5, hop_seconds=0.5).json()["windows"]
    assert [window["start_seconds"] for window in windows] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
    assert [window["end_seconds"] for window in windows] == pytest.approx([1.5, 2, 2.5, 3, 3.5, 4])
    for number, window in enumerate(windows):
        expected = steps[10 * number : 10 * number + 30].mean(axis=0)
        assert window["features"] == pytest.approx(expected, abs=2e-6)  # two roundings to six digits


def test_windows_do_not_overlap_by_default_and_the_last_ends_with_the_sound(
    client: httpx.Client, swelling: Path
) -> None:
    windows = features(client, swelling, level="windows", window_seconds=1.25).json()["windows"]
    assert [window["start_seconds"] for window in windows] == pytest.approx([0, 1.25, 2.5, 3.75])
    assert windows[-1]["end_seconds"] == pytest.approx(4.0)
    assert len(features(client, swelling, level="windows").json()["windows"]) == 4


def test_no_window_begins_after_the_sound_nor_is_its_end_left_out(client: httpx.Client, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "s.wav", sine(0.301, SAMPLE_RATE), SAMPLE_RATE)
    windows = features(client, sound, level="windows", window_seconds=0.08).json()["windows"]
    edges = [0.0, 0.08, 0.16, 0.24, 0.301]
    assert [window["start_seconds"] for window in windows] == pytest.approx(edges[:-1])
    assert [window["end_seconds"] for window in windows] == pytest.approx(edges[1:])
    short = features(client, sound, level="windows", window_seconds=0.01).json()["windows"]
    assert (len(short), short[-1]["start_seconds"], short[-1]["end_seconds"]) == (31, 0.3, 0.301)


def test_a_part(client: httpx.Client, swelling: Path) -> None:
    answer = features(client, swelling, start_seconds=2, end_seconds=3).json()
    assert answer["clip"][0] == pytest.approx(0.3, abs=PCM_LEVEL)
    assert (answer["start_seconds"], answer["end_seconds"]) == pytest.approx((2.0, 3.0))


def test_log_mel_comes_on_request(client: httpx.Client, swelling: Path) -> None:
    answer = features(client, swelling, log_mel=True).json()
    log_mel = np.array(answer["log_mel"])
    assert log_mel.shape == (80, NUM_MELS)
    assert log_mel[30] == pytest.approx(np.log(0.2 + 1e-3), abs=0.05)  # a quarter of a step is not a whole period


def test_npz(client: httpx.Client, swelling: Path) -> None:
    response = features(client, swelling, "application/x-npz", level="steps", log_mel=True)
    assert response.headers["content-type"] == "application/x-npz"
    answer = np.load(io.BytesIO(response.content))
    assert answer["clip"].shape == (3,)
    assert answer["steps"].dtype == np.float32
    assert answer["steps_starts"] == pytest.approx(np.arange(80) * STEP_SECONDS)
    assert answer["steps_ends"] == pytest.approx(answer["steps_starts"] + STEP_SECONDS)
    assert answer["log_mel"].shape == (80, NUM_MELS)
    assert str(answer["model"]) == "tiny-describer@1"
    assert "windows" not in answer


def test_csv_is_what_opensmile_writes(client: httpx.Client, swelling: Path) -> None:
    """`file,start,end` and times as pandas writes them: `0 days` where there is no more to say."""
    response = features(client, swelling, format="csv")
    assert response.headers["content-type"].startswith("text/csv")
    head, row = list(csv.reader(response.text.splitlines()))
    assert head == ["file", "start", "end", "feature_0", "feature_1", "feature_2"]
    assert row[:3] == ["upload", "0 days", "0 days 00:00:04"]
    assert float(row[3]) == pytest.approx(0.25, abs=PCM_LEVEL)
    rows = list(csv.DictReader(features(client, swelling, format="csv", level="steps").text.splitlines()))
    assert len(rows) == 80
    assert (rows[0]["start"], rows[0]["end"]) == ("0 days 00:00:00.000000", "0 days 00:00:00.050000")
    assert (rows[25]["start"], rows[25]["end"]) == ("0 days 00:00:01.250000", "0 days 00:00:01.300000")


def test_the_forms_file_name_is_in_the_csv(client: httpx.Client, swelling: Path) -> None:
    file = {"file": ("../a folder/so, loud.wav", swelling.read_bytes(), "audio/wav")}
    text = client.post("/features?format=csv", files=file).text
    assert list(csv.reader(text.splitlines()))[1][0] == "so, loud.wav"


def test_parquet_has_the_rows_of_the_csv(client: httpx.Client, swelling: Path) -> None:
    from pyarrow import parquet

    response = features(client, swelling, "application/vnd.apache.parquet", level="windows")
    assert response.headers["content-type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(io.BytesIO(response.content))
    rows = list(csv.DictReader(features(client, swelling, format="csv", level="windows").text.splitlines()))
    assert table.num_rows == len(rows) == 4
    assert table.column_names == list(rows[0])
    assert table["file"].to_pylist() == ["upload"] * 4
    assert [end.total_seconds() for end in table["end"].to_pylist()] == pytest.approx([1, 2, 3, 4])
    assert table["feature_0"].to_pylist() == pytest.approx([float(row["feature_0"]) for row in rows], rel=1e-8)
    assert table.schema.metadata[b"model"] == b"tiny-describer@1"
    assert table.schema.metadata[b"license"] == b"CC0-1.0"


def test_the_sound_of_a_video(client: httpx.Client, tmp_path: Path) -> None:
    tone = sine(2.0, 44_100, 400.0, 0.2 * 2**0.5)
    video = write_video(tmp_path / "v.mp4", moving_frames(20), 10, waveform=tone, sample_rate=44_100)
    answer = features(client, video).json()
    assert answer["clip"][0] == pytest.approx(0.2, abs=0.01)  # AAC, resampled
    assert answer["media"]["video_codec"] == "h264"


@pytest.mark.parametrize("sample_rate", [8000, 11_025, 48_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_number_of_channels(client: httpx.Client, tmp_path: Path, sample_rate: int, channels: int) -> None:
    tone = np.tile(sine(1.0, sample_rate, 400.0, 0.2 * 2**0.5), (channels, 1))
    sound = write_sound(tmp_path / "s.wav", tone, sample_rate)
    loudness = features(client, sound).json()["clip"][0]
    assert loudness == pytest.approx(0.2, abs=0.02) if channels < 6 else 0.05 < loudness < 0.5


def test_silence_is_a_sound(client: httpx.Client, tmp_path: Path) -> None:
    silence = write_sound(tmp_path / "s.wav", np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE)
    assert features(client, silence, log_mel=True).json()["clip"] == [0.0, 0.0, 20.0]


def test_a_last_step_is_filled_up_with_silence(client: httpx.Client, tmp_path: Path) -> None:
    click = write_sound(tmp_path / "s.wav", sine(0.01, SAMPLE_RATE), SAMPLE_RATE)
    answer = features(client, click, level="steps", log_mel=True).json()
    assert len(answer["steps"]) == len(answer["log_mel"]) == answer["clip"][2] == 1
    assert answer["end_seconds"] == pytest.approx(0.01)
    longer = write_sound(tmp_path / "l.wav", sine(0.19, SAMPLE_RATE), SAMPLE_RATE)
    answer = np.load(io.BytesIO(features(client, longer, level="steps", format="npz").content))
    assert answer["steps_ends"] == pytest.approx([0.05, 0.1, 0.15, 0.19])
    assert answer["steps"][3, 0] == pytest.approx(answer["steps"][2, 0] * 0.8**0.5, abs=0.01)  # 40 ms of 50 sound


def test_a_long_sound_in_chunks_is_as_one(client: httpx.Client, tmp_path: Path) -> None:
    """20 s are three chunks; the state is carried over their borders."""
    random = np.random.default_rng(0)
    loud = np.repeat(random.uniform(0.05, 0.4, 400), STEP_SAMPLES).astype(np.float32)
    square = loud * np.where(np.arange(len(loud)) % 2, 1, -1)  # at its own rate nothing is resampled
    sound = write_sound(tmp_path / "s.wav", square.astype(np.float32), SAMPLE_RATE)
    steps = np.array(features(client, sound, level="steps").json()["steps"])
    levels, mean = loud[::STEP_SAMPLES], 0.0
    assert steps[:, 0] == pytest.approx(levels, abs=PCM_LEVEL)
    for level, found in zip(levels, steps[:, 1], strict=True):
        mean = 0.5 * mean + 0.5 * float(level)
        assert found == pytest.approx(mean, abs=PCM_LEVEL)


def test_the_answer_is_that_of_one_forward(client: httpx.Client, store: Path, tmp_path: Path) -> None:
    """20.03 s: three chunks, and a last step that is not whole."""
    samples = round(20.03 * SAMPLE_RATE)
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    sound = write_sound(tmp_path / "s.wav", waveform, SAMPLE_RATE, "pcm_f32le")
    answer = np.load(io.BytesIO(features(client, sound, level="steps", log_mel=True, format="npz").content))
    module = load_version(store / "tiny-describer" / "1").module
    padded = torch.from_numpy(np.pad(waveform, (0, -samples % STEP_SAMPLES)))[None]
    clip, steps, _ = module(padded, torch.tensor([samples]))
    log_mel, _ = module.log_mel(padded, torch.tensor([samples]))
    for name, expected in (("clip", clip), ("steps", steps), ("log_mel", log_mel)):
        assert answer[name] == pytest.approx(expected[0].detach().numpy(), abs=1e-5)  # the contract's


def test_concurrent_requests_answer_as_alone(server: RunningServer, client: httpx.Client, tmp_path: Path) -> None:
    sounds = [
        write_sound(tmp_path / f"{number}.wav", sine(0.5 + 0.4 * number, SAMPLE_RATE, volume=0.1 * number), SAMPLE_RATE)
        for number in range(1, 5)
    ]
    query = {"level": "steps", "log_mel": True}
    alone = {sound: features(client, sound, **query).json() for sound in sounds}
    with server.client() as several, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda sound: (sound, features(several, sound, **query).json()), sounds * 4))
    for sound, answer in answers:
        for name in ("clip", "steps", "log_mel"):
            found, expected = np.array(answer[name]), np.array(alone[sound][name])
            assert found == pytest.approx(expected, abs=1e-5 + 1e-6)  # the contract's, and six digits


@pytest.mark.parametrize(
    ("query", "status", "what"),
    [
        ({"level": "frames"}, 400, "level"),
        ({"window_seconds": 1}, 400, "level=windows"),
        ({"level": "windows", "hop_seconds": 0}, 400, "hop_seconds"),
        ({"level": "windows", "window_seconds": 1e9}, 400, "window_seconds"),
        ({"log_mel": True, "format": "csv"}, 400, "json or npz"),
        ({"start_seconds": 50}, 422, "nothing from 50 s"),
        ({"model": "tiny-hearer"}, 404, "not for features"),
    ],
)
def test_what_cannot_be_answered(
    client: httpx.Client, swelling: Path, query: dict[str, object], status: int, what: str
) -> None:
    response = client.post("/features", params=query, content=swelling.read_bytes())
    assert response.status_code == status
    assert what in response.json()["detail"]


def test_a_video_without_sound_is_422(client: httpx.Client, red_video: Path) -> None:
    response = client.post("/features", content=red_video.read_bytes())
    assert response.status_code == 422
    assert "no sound" in response.json()["detail"]


def test_an_answer_has_a_largest_size(store: Path, swelling: Path) -> None:
    sound = swelling.read_bytes()
    with running_server(store, max_feature_values=170) as server, server.client() as client:
        assert client.post("/features?level=steps", content=sound).status_code == 200  # 80 steps of 2
        assert client.post("/features?level=windows", content=sound).status_code == 200
        for query in ("level=steps&log_mel=true", "level=windows&window_seconds=0.05&hop_seconds=0.01"):
            response = client.post(f"/features?{query}", content=sound)
            assert response.status_code == 422
            assert "170 numbers" in response.json()["detail"]
