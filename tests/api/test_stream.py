"""The WebSocket /stream of a real server, through the real `websockets` library."""

import base64
import itertools
import struct
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from app.pipelines.segments import COMPETING
from tests.conftest import RATE, coloured_frames
from tests.media_maker import moving_frames
from tests.server import running_server
from tests.streaming import KEYS, MAX_MESSAGE_BYTES, StreamClient, picture, streaming, token_of, upgraded

STEP_RATE = 4.0  # of the tiny models, a second


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    return [picture(frame) for frame in moving_frames(24)]


def show_all(client: StreamClient, pictures: list[bytes], first: int = 0) -> list[dict]:
    """One after the other: the answer of each before the next."""
    steps = []
    for number, data in enumerate(pictures, first):
        client.show(number / STEP_RATE, data)
        steps += client.hear_steps(1)
    return steps


def scores(steps: list[dict]) -> np.ndarray:
    return np.array([step["scores"] for step in steps])


def test_every_picture_is_answered_in_order(live, pictures):
    with streaming(live, model="tiny-rate") as client:
        welcome = client.start()
        assert welcome["type"] == "welcome"
        assert welcome["schema_version"] == 1
        assert welcome["labels"] == ["red", "green", "blue"]
        assert welcome["rate"] == STEP_RATE
        assert (welcome["sequence"], welcome["received"]) == (0, 0)
        for number, data in enumerate(pictures):
            client.show(number / STEP_RATE, data)
        steps = client.hear_steps(len(pictures))
        rest, done = client.end()
    assert rest == []
    assert [step["sequence"] for step in steps] == list(range(1, 25))
    assert [step["picture"] for step in steps] == list(range(24))
    assert [step["seconds"] for step in steps] == [number / STEP_RATE for number in range(24)]
    np.testing.assert_allclose(scores(steps).sum(axis=1), 1.0, atol=3e-6)  # six digits each
    assert "dropped" not in steps[-1]
    assert done["sequence"] == 24
    assert done["seconds"] == 6.0
    assert [label["score"] for label in done["labels"]] == sorted(steps[-1]["so_far"], reverse=True)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_all_kinds_of_pictures_say_what_they_show(live, kind):
    (frame,) = coloured_frames("blue", seconds=1 / RATE)
    with streaming(live, model="tiny") as client:
        client.start()
        client.show(0.0, picture(frame, kind))
        (step,) = client.hear_steps(1)
    assert int(np.argmax(step["scores"])) == 2


def test_a_stream_is_what_classify_says_of_the_same_frames(live, three_colour_video):
    """Segments of the live stream and of the timeline of the file that it was taken from."""
    frames = coloured_frames("green", "blue", "red", seconds=3.0)[:: RATE // int(STEP_RATE)]
    with live.client() as http, streaming(live, model="tiny-rate") as client:
        answer = http.post("/classify?timeline=true&model=tiny-rate", content=three_colour_video.read_bytes()).json()
        client.start()
        steps = show_all(client, [picture(frame) for frame in frames])
        _, done = client.end()
    opened = [segment for step in steps for segment in step.get("opened", [])]
    closed = [segment for step in steps for segment in step.get("closed", [])] + done["closed"]
    expected = answer["results"][0]["segments"]
    assert [(one["label"], one["start_seconds"]) for one in opened] == [("green", 0.0), ("blue", 3.0), ("red", 6.0)]
    assert [(one["label"], one["start_seconds"], one["end_seconds"]) for one in closed] == [
        (one["label"], one["start_seconds"], one["end_seconds"]) for one in expected
    ]


def test_smoothed_is_the_mean_of_the_last_steps(live, pictures):
    with streaming(live, model="tiny-rate") as client:
        client.start()
        steps = show_all(client, pictures[:12])
    raw = scores(steps)
    smoothed = np.array([step["smoothed"] for step in steps])
    window = (
        round(STEP_RATE * COMPETING.smoothing_seconds / 2) * 2 + 1
    )  # as wide as the centred mean that segments come of
    for at in range(len(raw)):
        expected = raw[max(0, at + 1 - window) : at + 1].mean(axis=0)
        np.testing.assert_allclose(smoothed[at], expected, atol=2e-6)  # both are rounded to six digits


def test_tokens_resume_fork_and_rewind(live, pictures):
    with streaming(live, model="tiny-rate", state="true") as client:
        client.start()
        whole = show_all(client, pictures)
    halfway = whole[11]["state"]
    for _ in range(2):  # the same token twice: a fork
        with streaming(live, state="true") as client:  # the token says which model
            welcome = client.start(state=halfway)
            assert welcome["model"]["name"] == "tiny-rate"
            assert (welcome["sequence"], welcome["seconds"]) == (12, 3.0)
            rest = show_all(client, pictures[12:18], first=12)
            client.say("rewind", state=halfway)
            rewound = client.hear()
            assert (rewound["type"], rewound["sequence"]) == ("rewound", 12)
            again = show_all(client, pictures[12:], first=12)
        np.testing.assert_allclose(scores(rest), scores(whole[12:18]), atol=1e-5)  # the contract's
        np.testing.assert_allclose(scores(again), scores(whole[12:]), atol=1e-5)
        assert [step["sequence"] for step in again] == list(range(13, 25))
        assert [step.get("closed") for step in again] == [step.get("closed") for step in whole[12:]]
        np.testing.assert_allclose(again[-1]["so_far"], whole[-1]["so_far"], atol=1e-5)
        np.testing.assert_allclose(again[-1]["smoothed"], whole[-1]["smoothed"], atol=1e-5)


def test_tokens_as_binary_messages_and_on_demand(live, pictures):
    with streaming(live, model="tiny", state="binary") as client:
        client.start()
        client.show(0.0, pictures[0])
        client.hear_steps(1)
        token = client.hear_bytes()
        client.say("state")
        assert client.hear()["sequence"] == 1
        client.hear_bytes()
    with streaming(live, model="tiny") as client:
        assert client.start(state=base64.b64encode(token).decode())["sequence"] == 1
        client.say("state")
        asked = client.hear()
        assert (asked["type"], asked["sequence"]) == ("state", 1)
        assert len(token_of(asked)) == pytest.approx(len(token), abs=16)  # the expiry has as many digits as it has


def test_who_was_cut_off_goes_on_and_nothing_is_lost_or_counted_twice(live, pictures):
    with streaming(live, model="tiny-rate") as client:
        client.start()
        whole = show_all(client, pictures)
    with streaming(live, model="tiny-rate") as client:
        session = client.start()["session"]
        for number in range(10):
            client.show(number / STEP_RATE, pictures[number])
        known = client.hear_steps(4)  # of the others it never hears
        client.cut()
    with streaming(live) as client:
        welcome = client.start(session=session, acknowledged=4)
        sent_again = welcome["received"]
        assert 4 <= sent_again <= 10
        for number in range(sent_again, len(pictures)):
            client.show(number / STEP_RATE, pictures[number])
        rest, done = client.end()
    steps = [*known, *rest]
    assert [step["sequence"] for step in steps] == list(range(1, 25))
    assert [step["picture"] for step in steps] == list(range(24))
    np.testing.assert_allclose(scores(steps), scores(whole), atol=1e-5)
    assert done["sequence"] == 24


def test_who_was_cut_off_is_told_again_what_was_refused_after_the_last_step_it_has(live, pictures):
    with streaming(live, model="tiny") as client:
        session = client.start()["session"]
        client.show(0.0, pictures[0])
        client.hear_steps(1)
        client.show(1 / STEP_RATE, b"no picture")
        client.show(2 / STEP_RATE, pictures[2])
        after = [client.hear() for _ in range(2)]  # as if it never had
        client.cut()
    with streaming(live) as client:
        assert client.start(session=session, acknowledged=1)["received"] == 3
        again = [client.hear() for _ in range(2)]
    assert again == after
    assert [message["type"] for message in again] == ["problem", "step"]


def test_who_was_cut_off_before_any_answer_needs_not_say_what_it_has(live, pictures):
    """Also where the session goes on from a state, whose steps it never had to answer."""
    with streaming(live, model="tiny", state="true") as client:
        client.start()
        state = show_all(client, pictures[:3])[-1]["state"]
    with streaming(live) as client:
        session = client.start(state=state)["session"]
        client.show(3 / STEP_RATE, pictures[3])
        client.cut()
    with streaming(live) as client:
        welcome = client.start(session=session)
        assert welcome["type"] == "welcome", welcome
        for number in range(3 + welcome["received"], 5):
            client.show(number / STEP_RATE, pictures[number])
        steps, _ = client.end()
    assert [step["sequence"] for step in steps] == [4, 5]


def test_who_was_cut_off_as_the_last_word_was_said_is_told_it_again(live, pictures):
    for _ in range(4):  # as many as are kept: the oldest is discarded as the next one ends, which takes a moment
        with streaming(live, model="tiny") as client:
            client.start(kind="encoded")
            client.say("end")
            assert client.close_code() == 4422
    counted = 'afterframe_stream_steps_total{model="tiny-rate",version="1"}'
    before = live.metric(counted)
    with streaming(live, model="tiny-rate", state="true") as client:
        session = client.start()["session"]
        show_all(client, pictures[:3])
        _, done = client.end()  # as if it never came
    live.wait_for_metric("afterframe_stream_sessions", 0)  # it holds no place
    for _ in range(2):
        with streaming(live, state="true") as client:
            assert client.start(session=session, acknowledged=2)["received"] == 3
            assert [step["sequence"] for step in client.hear_steps(1)] == [3]
            again = client.hear()
            assert client.close_code() == 1000
        assert again.keys() == done.keys()
        assert {**again, "state": ""} == {**done, "state": ""}  # a token says when it was made
    assert live.metric(counted) == before + 3


def test_who_was_cut_off_as_it_was_told_why_the_session_ends_is_told_it_again(live, pictures):
    with streaming(live, model="tiny") as client:
        session = client.start()["session"]
        show_all(client, pictures[:1])
        client.say("unknown")
        closing = client.hear()
        assert client.close_code() == 4400
    with streaming(live) as client:
        client.start(session=session, acknowledged=1)
        again = client.hear()
        assert client.close_code() == 4400
    assert (again["type"], again["detail"]) == ("closing", closing["detail"])


def test_a_session_that_nobody_comes_back_to_is_gone(live, pictures):
    with streaming(live, model="tiny") as client:
        session = client.start()["session"]
        client.cut()
    time.sleep(4)
    with streaming(live) as client:
        closing = client.start(session=session)
        assert (closing["type"], closing["code"]) == ("closing", 4404)
        assert "3 s" in closing["detail"]
        assert client.close_code() == 4404


def test_a_second_client_takes_the_session_over(live, pictures):
    with streaming(live, model="tiny") as first, streaming(live) as second:
        session = first.start()["session"]
        show_all(first, pictures[:2])
        assert second.start(session=session, acknowledged=2)["received"] == 2
        assert first.close_code() == 4409
        assert show_all(second, pictures[2:3], first=2)[0]["sequence"] == 3


def test_dropping_keeps_the_newest_and_tells_how_many(live, pictures):
    with streaming(live, model="tiny-rate") as client:
        client.start(backpressure="drop", max_in_flight=1)
        for number in range(300):
            client.show(number / STEP_RATE, pictures[number % 24])
        steps, done = client.end()
    shown = [step["picture"] for step in steps]
    assert shown == sorted(set(shown))
    assert shown[-1] == 299
    assert done["dropped"] == 300 - len(steps) > 0
    assert steps[-1]["dropped"] == done["dropped"]
    assert [step["seconds"] for step in steps] == [number / STEP_RATE for number in shown]


def test_blocking_loses_nothing(live, pictures):
    with streaming(live, model="tiny-rate") as client:
        client.start(backpressure="block", max_in_flight=1)
        for number in range(100):
            client.show(number / STEP_RATE, pictures[number % 24])
        steps, done = client.end()
    assert [step["picture"] for step in steps] == list(range(100))
    assert done["dropped"] == 0


@pytest.mark.parametrize(
    ("camera_rate", "jitter", "expected"),
    [
        (30.0, 0.0, [0, 6, 14, 21, 29]),  # the first of each quarter of a second, or 1/16 s before it
        (4.0, 0.03, list(range(40))),  # as fast as the model, but not as regular
        (1.5, 0.0, list(range(40))),  # slower
    ],
)
def test_a_camera_that_is_too_fast_is_thinned(live, pictures, camera_rate, jitter, expected):
    chance = np.random.default_rng(0).uniform(-jitter, jitter, 40)
    times = np.arange(40) / camera_rate + chance - chance[0]
    with streaming(live, model="tiny-rate", state="true") as client:
        session = client.start(pace="model", max_in_flight=32)["session"]
        for number in range(20):
            client.show(times[number], pictures[number % 24])
        steps = client.hear_steps(len([number for number in expected if number < 20]))
        client.cut()
    with streaming(live) as client:
        assert client.start(session=session, acknowledged=steps[-1]["sequence"])["received"] == 20
        for number in range(20, 40):
            client.show(times[number], pictures[number % 24])
        rest, done = client.end()
    steps += rest
    assert [step["picture"] for step in steps][: len(expected)] == expected
    assert [step["sequence"] for step in steps] == list(range(1, len(steps) + 1))
    assert done["passed"] == 40 - len(steps)
    assert done["dropped"] == 0


def test_a_picture_may_have_the_time_of_the_last_one_before_the_token(live, pictures):
    with streaming(live, model="tiny-rate", state="true") as client:
        client.start()
        client.show(3.8000000000000003, pictures[0])  # a step later and back again is a little more
        token = client.hear_steps(1)[0]["state"]
    with streaming(live) as client:
        client.start(state=token)
        client.show(3.8000000000000003, pictures[1])
        assert client.hear_steps(1)[0]["sequence"] == 2


def test_thinning_goes_on_from_a_token(live, pictures):
    with streaming(live, model="tiny-rate", state="true") as client:
        client.start(pace="model")
        client.show(0.0, pictures[0])
        token = client.hear_steps(1)[0]["state"]
    with streaming(live) as client:
        client.start(state=token, pace="model")
        for seconds in (0.05, 0.1, 0.15, 0.2, 0.25):  # a step is due at 0.25, or from 0.1875 on
            client.show(seconds, pictures[1])
        steps, done = client.end()
    assert [step["seconds"] for step in steps] == [0.2]
    assert done["passed"] == 4


def test_a_picture_that_does_not_decode_is_passed_over(live, pictures):
    with streaming(live, model="tiny-rate") as client:
        client.start()
        for number, data in enumerate([pictures[0], b"GIF89a" + b"x" * 50, pictures[1][:60], pictures[2]]):
            client.show(float(number), data)
        heard = [client.hear() for _ in range(4)]
    problems = {message["picture"]: message["status"] for message in heard if message["type"] == "problem"}
    assert problems == {1: 415, 2: 422}
    steps = [message for message in heard if message["type"] == "step"]
    assert [(step["sequence"], step["picture"]) for step in steps] == [(1, 0), (2, 3)]


@pytest.mark.parametrize(
    ("query", "start", "code"),
    [
        ({"model": "nothing"}, {}, 4404),
        ({"model": "tiny", "colour": "red"}, {}, 4400),
        ({"model": "tiny&model=tiny-rate"}, {}, 4400),
        ({"model": "tiny-hearer"}, {"kind": "encoded"}, 4400),
        ({"model": "tiny-listener"}, {"kind": "pictures"}, 4400),
        ({"model": "tiny"}, {"schema_version": 2}, 4400),
        ({"model": "tiny"}, {"max_in_flight": 1000}, 4400),
        ({"model": "tiny"}, {"state": "no base64!"}, 4401),
        ({"model": "tiny"}, {"state": base64.b64encode(b"x" * 100).decode()}, 4401),
        ({"model": "tiny"}, {"session": "guessed"}, 4404),
        ({"model": "tiny"}, {"session": "guessed", "state": "any"}, 4400),
    ],
)
def test_what_cannot_be_started_is_said(live, query, start, code):
    with streaming(live, **query) as client:
        closing = client.start(**start)
        assert (closing["type"], closing["code"]) == ("closing", code)
        assert closing["detail"]
        assert "Value error" not in closing["detail"]
        assert client.close_code() == code


def test_the_state_of_another_version_is_refused_with_what_it_fits(live, pictures):
    with streaming(live, model="tiny", version="1", state="true") as client:
        client.start()
        token = show_all(client, pictures[:1])[0]["state"]
    with streaming(live, model="tiny", version="2") as client:
        closing = client.start(state=token)
        assert (closing["code"], closing["title"]) == (4409, "State of another model")
        assert "tiny version 1" in closing["detail"]
    with streaming(live, model="tiny") as client:  # the newest is 2; the state's own still fits
        assert client.start(state=token)["model"]["version"] == "1"


@pytest.mark.parametrize("message", ["", "{}", '{"type": "dance"}', '{"type": "acknowledge"}', '{"type": "start"}'])
def test_a_message_of_another_schema_ends_the_session(live, message):
    with streaming(live, model="tiny") as client:
        client.start()
        client.socket.send(message)
        closing = client.hear()
        assert closing["code"] == 4400
        assert ": :" not in closing["detail"]
        assert client.close_code() == 4400


@pytest.mark.parametrize("message", [b"", b"1234567", struct.pack("<d", float("nan")) + b"x", struct.pack("<d", -1.0)])
def test_a_binary_message_without_time_or_picture_ends_the_session(live, message):
    with streaming(live, model="tiny") as client:
        client.start()
        client.send(message)
        assert client.close_code() == 4400


def test_time_does_not_run_backwards(live, pictures):
    with streaming(live, model="tiny", state="true") as client:
        client.start()
        show_all(client, pictures[:3])
        client.show(0.1, pictures[3])
        closing = client.hear()
        assert closing["code"] == 4400
        assert "0.1 s came after one at 0.5 s" in closing["detail"]
        assert token_of(closing)


def test_messages_are_bounded(live):
    with streaming(live, model="tiny") as client:
        client.start()
        with suppress(ConnectionClosed):  # its head is enough to be refused
            client.send(bytes(MAX_MESSAGE_BYTES + 1))
        assert client.close_code() == 1009


def test_who_sends_all_of_too_long_a_message_is_told_too(live):
    num_bytes = 8 * MAX_MESSAGE_BYTES
    with upgraded(live) as connection:
        connection.sendall(b"\x82\xff" + num_bytes.to_bytes(8) + bytes(4) + bytes(num_bytes))
        frame = connection.recv(1000)
        assert (frame[0], int.from_bytes(frame[2:4])) == (0x88, 1009)
        assert connection.recv(1000) == b""


def test_a_full_house_says_when_to_come_back(live):
    with ExitStack() as taken:
        for _ in range(4):
            assert taken.enter_context(streaming(live, model="tiny")).start()["type"] == "welcome"
        with streaming(live, model="tiny") as client:
            closing = client.start()
            assert (closing["code"], closing["retry_after_seconds"]) == (1013, 5)
            assert client.close_code() == 1013
            assert client.reason == "Retry-After: 5"


def test_who_only_holds_the_line_takes_no_more_than_his_share(live):
    with ExitStack() as held:
        for _ in range(8):  # twice as many as there may be sessions
            held.enter_context(streaming(live, model="tiny"))
        with streaming(live, model="tiny") as client:
            closing = client.hear()
            assert (closing["type"], closing["code"]) == ("closing", 1013)


def test_metrics_and_the_log_tell_of_streams(live, pictures):
    with streaming(live, model="tiny", version="2") as client:
        client.start()
        show_all(client, pictures[:5])
        client.end()
    with live.client() as http:
        text = http.get("/metrics").text
    assert 'afterframe_stream_steps_total{model="tiny",version="2"}' in text
    assert 'afterframe_stream_ends_total{code="1000"}' in text
    assert "afterframe_stream_sessions " in text
    assert 'afterframe_stream_step_duration_seconds_count{model="tiny",version="2"}' in text
    line = [line for line in live.lines if line.get("route") == "/stream"][-1]
    assert (line["close_code"], line["models"], line["sequence"]) == (1000, ["tiny@2"], 5)
    assert len(line["trace_id"]) == 32


def test_who_closes_in_good_order_leaves_no_session_though_it_takes_no_answer(live):
    """The close frame lies behind what nobody takes any more once the answer cannot be sent."""
    start = b'{"type": "start"}'
    ends = 'afterframe_stream_ends_total{code="1000"}'
    live.wait_for_metric("afterframe_stream_sessions", 0)
    before = live.metric(ends)
    with upgraded(live, "/stream?model=tiny") as connection:
        connection.sendall(bytes([0x81, 0x80 + len(start)]) + bytes(4) + start + b"\x88\x82" + bytes(4) + b"\x03\xe8")
        live.wait_for_metric(ends, before + 1)
    assert live.metric("afterframe_stream_sessions") == 0


def test_codes_that_clients_make_up_are_counted_as_one(live):
    for code in (3123, 4999):
        with streaming(live, model="tiny") as client:
            client.socket.close(code)
    live.wait_for_metric('afterframe_stream_ends_total{code="other"}', 2, at_least=True)
    with live.client() as http:
        text = http.get("/metrics").text
    assert 'code="3123"' not in text
    assert 'code="4999"' not in text


def test_silence_and_length_have_limits(store: Path, pictures):
    with running_server(store, session_idle_seconds=1, session_total_seconds=3, models="tiny") as server:
        with streaming(server, model="tiny") as client:
            client.start()
            show_all(client, pictures[:2])
            closing = client.hear()
            assert (closing["code"], closing["detail"]) == (4408, "Nothing was sent for 1 s.")
            token = closing["state"]
            assert client.close_code() == 4408
        with streaming(server, model="tiny") as client:
            assert client.start(state=token)["sequence"] == 2
            for number in itertools.count(2):
                try:
                    client.show(number / STEP_RATE, pictures[number % 24])
                except ConnectionClosed:  # between two answers: what was said last is still to be heard
                    break
                if (message := client.hear())["type"] != "step":
                    break
                time.sleep(0.05)
            while message["type"] == "step":
                message = client.hear()
            assert (message["type"], message["code"]) == ("closing", 4408)
            assert "3 s" in message["detail"]
            assert token_of(message)


def test_a_stream_survives_the_server(live, store: Path, pictures):
    """SIGTERM: every client is told where it stands, and goes on from there on another process."""
    with streaming(live, model="tiny-rate") as client:
        client.start()
        whole = show_all(client, pictures)
    with running_server(store, models="tiny-rate", state_keys=KEYS) as server, streaming(server) as client:
        client.start()
        steps = show_all(client, pictures[:9])
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 20  # not the time that uploads have to end
        closing = client.hear()
        assert (closing["type"], closing["code"]) == ("closing", 1012)
        assert client.close_code() == 1012
    with streaming(live) as client:
        assert client.start(state=closing["state"])["sequence"] == 9
        steps += show_all(client, pictures[9:], first=9)
        client.end()
    np.testing.assert_allclose(scores(steps), scores(whole), atol=1e-5)
    np.testing.assert_allclose(steps[-1]["so_far"], whole[-1]["so_far"], atol=1e-5)


def test_the_guide_names_every_message_and_field(live):
    with live.client() as http:
        schema = http.get("/stream/schema").json()
    guide = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")
    assert schema["schema_version"] == 1
    for side in ("client", "server"):
        mapping = schema[side]["discriminator"]["mapping"]
        for kind, reference in mapping.items():
            assert f"`{kind}`" in guide, kind
            for field in schema[side]["$defs"][reference.rpartition("/")[2]]["properties"]:
                assert f"`{field}`" in guide or f"`{field}:" in guide or field in ("type", "schema_version"), field


def test_http_is_not_disturbed(live, red_video):
    with live.client() as http:
        assert http.get("/stream").status_code == 404
        assert http.post("/classify", content=red_video.read_bytes()).status_code == httpx.codes.OK
