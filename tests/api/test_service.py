"""Models, health, metrics, log lines, OpenAPI and stopping."""

import json
import signal
import time
from pathlib import Path

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from app.config import Settings
from app.main import create_app
from tests.server import RunningServer, running_server

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_document_has_every_kind_of_answer_to_a_file() -> None:
    document = json.loads(SNAPSHOT.read_text())
    for path in ("/classify", "/predict", "/caption", "/features"):
        answers = document["paths"][path]["post"]["responses"]
        assert {"application/json", "application/x-ndjson", "text/event-stream"} <= answers["200"]["content"].keys()
        assert {"408", "413", "429", "500", "503", "504", "507"} <= answers.keys()


def described_answer(client: httpx.Client, path: str, method: str, status: int) -> tuple[dict, dict]:
    """An answer as the document has it, and the whole document."""
    document = client.get("/openapi.json").json()
    return document["paths"][path][method]["responses"][str(status)], document


def is_described(value: object, schema: dict, document: dict) -> bool:
    return OAS31Validator({**schema, "components": document["components"]}).is_valid(value)


@pytest.mark.parametrize(
    ("path", "query", "own"),
    [
        ("/classify", "model=tiny-rate&timeline=true", {"ClassifyProgress", "ClassifyFinal"}),
        ("/predict", "surprise=true&horizon=1", {"SurpriseProgress", "PredictFinal"}),
        ("/caption", "timeline=true", {"CaptionProgress", "CaptionFinal"}),
    ],
)
def test_events_are_as_described(
    client: httpx.Client, three_colour_video: Path, path: str, query: str, own: set[str]
) -> None:
    answer, document = described_answer(client, path, "post", 200)
    schema = answer["content"]["application/x-ndjson"]["schema"]
    assert answer["content"]["text/event-stream"]["schema"] == schema
    names = {event["$ref"].rpartition("/")[2] for event in schema["oneOf"]}
    assert names == own | {"Waiting", "ProblemEvent"}
    headers = {"accept": "application/x-ndjson"}
    lines = client.post(f"{path}?{query}", content=three_colour_video.read_bytes(), headers=headers).text.splitlines()
    assert len(lines) >= 2
    assert all(is_described(json.loads(line), schema, document) for line in lines)
    assert not is_described({"type": "result"}, schema, document)


def test_examples_are_as_described() -> None:
    document = json.loads(SNAPSHOT.read_text())
    examples = {name: schema for name, schema in document["components"]["schemas"].items() if "example" in schema}
    assert {"ClassifyResponse", "PredictResponse", "FeaturesFinal", "CaptionResponse", "Problem"} <= examples.keys()
    assert [name for name, one in examples.items() if not is_described(one["example"], one, document)] == []


def test_headers_are_as_described(client: httpx.Client, three_colour_video: Path) -> None:
    query, prefer = {"/predict": "?surprise=true", "/classify": ""}, {"prefer": "wait=20"}
    sent = {"/predict": {"Server-Timing", "X-Model", "X-Model-License"}, "/classify": {"Server-Timing"}}
    for path, own in sent.items():
        answer, document = described_answer(client, path, "post", 200)
        assert answer["headers"].keys() == own | {"Preference-Applied", "X-Partial"}
        response = client.post(path + query[path], content=three_colour_video.read_bytes(), headers=prefer)
        assert response.headers["preference-applied"] == "wait=20"
        assert {name for name in answer["headers"] if name in response.headers} == own | {"Preference-Applied"}
        overloaded = document["paths"][path]["post"]["responses"]["429"]
        assert overloaded["headers"].keys() == {"Retry-After"}
    taken = {
        path: [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"]
        for path, operations in document["paths"].items()
        if (operation := operations.get("post"))
    }
    assert taken.pop("/stream/steps") == ["Afterframe-State"]
    assert taken == {path: ["Prefer"] for path in ("/classify", "/predict", "/features", "/caption")}


def test_answers_say_what_they_were_chosen_by_and_where_the_time_went(
    client: httpx.Client, three_colour_video: Path
) -> None:
    video = three_colour_video.read_bytes()
    for path in ("/classify", "/caption?timeline=true", "/predict?surprise=true"):
        whole = client.post(path, content=video)
        assert (whole.status_code, whole.headers["vary"]) == (200, "Accept")
        assert "infer;dur=" in whole.headers["server-timing"]
        events = client.post(path, content=video, headers={"accept": "application/x-ndjson"})
        assert (events.headers["content-type"], events.headers["vary"]) == ("application/x-ndjson", "Accept")


def test_a_malformed_query_is_as_described(client: httpx.Client) -> None:
    answer, document = described_answer(client, "/classify", "post", 400)
    schema = answer["content"]["application/problem+json"]["schema"]
    problem = client.post("/classify?top_k=0", content=b"video").json()
    assert is_described(problem, schema, document)
    assert problem["errors"][0]["parameter"] == "top_k"
    assert not is_described({**problem, "errors": ["top_k"]}, schema, document)


def test_the_document_says_what_needs_a_key() -> None:
    document = json.loads(SNAPSHOT.read_text())
    assert document["components"]["securitySchemes"] == {
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "Bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in ("/health/live", "/health/ready", "/metrics"):
                assert "security" not in operation
            else:
                assert operation["security"] == [{}, {"X-API-Key": []}, {"Bearer": []}]
                assert {"401", "403", "429"} <= operation["responses"].keys()
                assert "Retry-After" in operation["responses"]["429"]["headers"]


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/web/page.js", "/docs", "/openapi.json", "/models", "/models/tiny", "/models/tiny/card"),
        *("/health/live", "/health/ready", "/metrics", "/stream/schema", "/nowhere", "/models/nobody"),
    ],
)
def test_head_is_get_without_the_body(server: RunningServer, client: httpx.Client, path: str) -> None:
    got, headless = client.get(path), client.head(path)
    assert (headless.status_code, headless.content) == (got.status_code, b"")
    assert headless.headers.keys() == got.headers.keys()
    changing = {"date", "x-request-id", *(["content-length"] if path == "/metrics" else [])}
    assert {name: value for name, value in headless.headers.items() if name not in changing} == {
        name: value for name, value in got.headers.items() if name not in changing
    }
    lines = [server.line(response.headers["x-request-id"]) for response in (headless, got)]
    assert [line["method"] for line in lines] == ["HEAD", "GET"]
    assert lines[0]["route"] == lines[1]["route"]


def test_models_are_listed_newest_version_first(client: httpx.Client) -> None:
    models = client.get("/models").json()["models"]
    assert [(model["name"], model["default"]) for model in models] == [
        ("tiny", True),
        ("tiny-describer", True),
        ("tiny-forecast", True),
        ("tiny-hearer", False),
        ("tiny-listener", False),
        ("tiny-rate", False),
        ("tiny-writer", True),
        ("tiny-writer-whole", False),
    ]
    assert [version["version"] for version in models[0]["versions"]] == ["2", "1"]
    assert models[0]["versions"][0]["labels"] == ["red", "green", "blue"]
    assert client.get("/models/tiny").json() == models[0]


def test_models_of_every_task_say_what_they_take_and_give(client: httpx.Client) -> None:
    newest = {model["name"]: model["versions"][0] for model in client.get("/models").json()["models"]}
    assert newest["tiny"].items() >= {"task": "classify", "media": "video", "max_horizon": None}.items()
    assert {name: newest[name]["trained_for_key_frames"] for name in ("tiny", "tiny-rate")} == {
        "tiny": True,
        "tiny-rate": False,
    }
    assert newest["tiny-hearer"].items() >= {"media": "audio", "labels": ["quiet", "loud"], "causal": False}.items()
    assert newest["tiny-hearer"]["license"] == "CC-BY-NC-SA-4.0"
    forecast = {"task": "predict", "labels": None, "observed_frames": 4, "max_horizon": 12, "frame_rate": 10.0}
    assert newest["tiny-forecast"].items() >= forecast.items()
    described = {"task": "features", "dimension": 3, "step_dimension": 2, "hop_seconds": 0.05, "sample_rate": 8000}
    assert newest["tiny-describer"].items() >= described.items()


def test_each_task_has_a_default_of_its_own(store: Path) -> None:
    chosen = {"default_model_classify": "tiny-rate", "default_model_predict": "tiny-forecast"}
    chosen["default_model_caption"] = "tiny-writer-whole"
    with running_server(store, **chosen) as server, server.client() as client:
        models = client.get("/models").json()["models"]
    assert [model["name"] for model in models if model["default"]] == [
        "tiny-describer",
        "tiny-forecast",
        "tiny-rate",
        "tiny-writer-whole",
    ]
    with running_server(store, default_model_features="tiny") as server:
        assert server.process.wait(30) != 0
    assert any("default for features" in str(line) for line in server.lines)


def test_card_is_markdown(client: httpx.Client) -> None:
    response = client.get("/models/tiny/card")
    assert response.headers["content-type"] == "text/markdown; charset=utf-8"
    assert response.text.startswith("# tiny")
    answer, _ = described_answer(client, "/models/{name}/card", "get", 200)
    assert answer["content"].keys() == {"text/markdown"}


def test_health(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready", "faults": []}


def test_metrics_count_what_was_done(client: httpx.Client, red_video: Path) -> None:
    client.post("/classify", content=red_video.read_bytes())
    text = client.get("/metrics").text
    for expected in (
        'afterframe_http_request_duration_seconds_count{method="POST",route="/classify",status="200"}',
        'afterframe_stage_duration_seconds_count{route="/classify",stage="decode"}',
        'afterframe_batch_size_bucket{le="1.0",method="forward",model="tiny",version="2"}',
        'afterframe_frames_total{outcome="decoded"}',
        "afterframe_realtime_factor_count",
        'afterframe_model_info{digest="',
        "afterframe_decoder_workers ",
        "afterframe_inference_queue_depth 0.0",
        "process_resident_memory_bytes",
    ):
        assert expected in text


def test_one_log_line_per_request_with_its_id_and_trace(
    server: RunningServer, client: httpx.Client, red_video: Path
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"x-request-id": "mine-1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    response = client.post("/classify", content=red_video.read_bytes(), headers=headers)
    assert response.headers["x-request-id"] == "mine-1"
    client.get("/health/live")  # its line comes after ours
    lines = [line for line in server.lines if line.get("request_id") == "mine-1"]
    assert len(lines) == 1
    assert lines[0]["trace_id"] == trace
    assert lines[0]["route"] == "/classify"
    assert lines[0]["status"] == 200
    assert lines[0]["body_bytes"] == red_video.stat().st_size
    assert lines[0]["models"] == ["tiny@2"]
    assert set(lines[0]["stages"]) == {"upload", "queue", "decode", "infer"}


@pytest.mark.parametrize(
    ("sent", "is_taken_over"),
    [
        ("01-{}-00f067aa0ba902b7-01", True),  # versions to come
        ("cc-{}-00f067aa0ba902b7-01-more", True),
        ("00-{}-00f067aa0ba902b7-01-more", False),
        ("cc-{}-00f067aa0ba902b7-01.more", False),
        ("ff-{}-00f067aa0ba902b7-01", False),
        ("00-{}-0000000000000000-01", False),
    ],
)
def test_a_trace_is_taken_over_from_whoever_has_one(
    server: RunningServer, client: httpx.Client, sent: str, is_taken_over: bool
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    response = client.get("/health/live", headers={"traceparent": sent.format(trace)})
    found = server.line(response.headers["x-request-id"])["trace_id"]
    assert (found == trace) == is_taken_over
    assert len(found) == len(trace)


def test_a_request_id_that_is_no_id_is_replaced(client: httpx.Client) -> None:
    assert client.get("/health/live", headers={"x-request-id": 'a b"c'}).headers["x-request-id"] != 'a b"c'


def test_openapi_is_valid_and_as_committed() -> None:
    document = create_app(Settings()).openapi()
    validate(document)
    assert document == json.loads(SNAPSHOT.read_text()), "run `make openapi` and look at the difference"


def test_docs(client: httpx.Client) -> None:
    assert "url: '/openapi.json'" in client.get("/docs").text


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_stops_when_told_and_leaves_no_process(store: Path, red_video: Path, sent: signal.Signals) -> None:
    with running_server(store) as server:
        with server.client() as client:
            assert client.post("/classify", content=red_video.read_bytes()).status_code == 200
        children = server.descendants()
        assert children
        server.stop(sent)
        end = time.monotonic() + 10  # the fork server leaves when it notices that its parent has
        while (left := [pid for pid in children if Path(f"/proc/{pid}").exists()]) and time.monotonic() < end:
            time.sleep(0.05)
        assert left == []


def test_a_damaged_model_stops_the_start(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "1"
    folder.mkdir(parents=True)
    for file in (store / "tiny" / "1").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    model = bytearray((folder / "model.pt").read_bytes())
    model[len(model) // 2] ^= 1
    (folder / "model.pt").write_bytes(model)
    with running_server(tmp_path) as server:
        assert server.process.wait(30) != 0
    assert any("sha256" in str(line) for line in server.lines)
