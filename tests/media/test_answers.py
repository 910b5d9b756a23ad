"""A decoder that a hostile file has taken over may write anything; what it writes is checked against the request."""

import json
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest

from app.errors import InvalidMedia, ServiceError
from app.media.answers import MAX_HEADER_BYTES, Answer, AnswerError, Given
from app.media.confinement import LAYERS
from app.media.request import (
    FrameChunk,
    FrameSpec,
    MediaEvent,
    MediaInfo,
    MediaLimits,
    MediaRequest,
    MediaSummary,
    WaveformChunk,
    WaveformSpec,
)
from app.media.wire import LENGTHS, decode_job, encode_error, encode_event, encode_job, encode_ready

LIMITS = MediaLimits(max_pixels=100 * 100)
REQUEST = MediaRequest(
    frames=(
        FrameSpec(4, 3, clip_length=2, chunk_length=8),
        FrameSpec(0, 0, fit="keep", longest_side=50, rate=2.0),
        FrameSpec(0, 0, fit="keep", rate=2.0),
    ),
    waveforms=(WaveformSpec(16_000, 100),),
    start_seconds=0.5,
    sampling="fast",
)
INFO = MediaInfo(1.5, 96, 64, 25.0, "h264", None, False)
SUMMARY = MediaSummary(1.5, 40, 10, "exact", 0.0, 0.25)


def read(
    message: bytes, given: Given | None = None, request: MediaRequest = REQUEST, limits: MediaLimits = LIMITS
) -> MediaEvent | ServiceError:
    header_bytes, body_bytes = LENGTHS.unpack(message[: LENGTHS.size])
    assert header_bytes <= MAX_HEADER_BYTES
    body = np.frombuffer(message[LENGTHS.size + header_bytes :], np.uint8)
    assert len(body) == body_bytes
    answer = Answer(message[LENGTHS.size : LENGTHS.size + header_bytes], body_bytes, request, limits)
    return answer.event(body, given or Given())


def forge(body: bytes = b"", **header: Any) -> bytes:
    text = json.dumps(header).encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


def frames_of(spec: int, *shape: int) -> FrameChunk:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return FrameChunk(spec, pixels, np.arange(shape[0]) / 2, decode_seconds=0.25)


@pytest.mark.parametrize(
    "event",
    [
        replace(INFO, duration_seconds=6535836193917.3125),  # of a file with one bit flipped
        INFO,
        replace(INFO, duration_seconds=(2**63 - 1) / av.time_base),
        MediaInfo(None, None, None, None, None, "pcm_s16le", True),
        MediaInfo(None, None, None, None, None, "acelp.kelvin", True),  # of FFmpeg's names, the only one with a dot
        SUMMARY,
        frames_of(0, 2, 3, 4, 3),
        frames_of(1, 1, 50, 20, 3),
        frames_of(2, 1, 90, 100, 3),
        WaveformChunk(0, np.linspace(-1, 1, 100, dtype="f4"), -0.02),
    ],
)
def test_what_an_honest_worker_writes_is_read_back(event: MediaEvent) -> None:
    again = read(b"".join(encode_event(event)))
    assert type(again) is type(event)
    for name in type(event).__slots__:
        np.testing.assert_array_equal(getattr(again, name), getattr(event, name))


def test_a_job_is_read_back() -> None:
    message = encode_job(REQUEST, LIMITS)
    assert decode_job(message[LENGTHS.size :]) == (REQUEST, LIMITS)


def test_an_error_is_read_back() -> None:
    message = b"".join(encode_error(InvalidMedia("The file has no sound.")))
    error = read(message)
    assert type(error) is InvalidMedia
    assert str(error) == "The file has no sound."


FRAMES = {"type": "frames", "spec": 0, "shape": [2, 3, 4, 3], "decode_seconds": 0.5}
SOUND = {"type": "waveform", "spec": 0, "start_seconds": 0.0, "decode_seconds": 0.5}
ERROR = {"type": "error", "error": "InvalidMedia", "message": "x", "is_spent": False}
INFO_HEADER = {"type": "info", **{name: getattr(INFO, name) for name in MediaInfo.__slots__}}


@pytest.mark.parametrize(
    "message",
    [
        forge(),
        forge(type="exec"),
        LENGTHS.pack(3, 0) + b"\x80\x04.",  # the beginning of a pickle
        LENGTHS.pack(8, 0) + b'["info"]',
        forge(**FRAMES, body=bytes(10)),
        forge(**FRAMES, body=bytes(2 * 8 + 72 + 1)),
        forge(**{**FRAMES, "spec": 7}, body=bytes(2 * 8 + 72)),
        forge(**{**FRAMES, "spec": -1}, body=bytes(2 * 8 + 72)),
        forge(**{**FRAMES, "shape": [2, 4, 3, 3]}, body=bytes(2 * 8 + 72)),
        forge(**{**FRAMES, "shape": [9, 3, 4, 3]}, body=bytes(9 * 44)),  # more than a chunk
        forge(**{**FRAMES, "shape": [0, 3, 4, 3]}),
        forge(**{**FRAMES, "spec": 1, "shape": [1, 51, 10, 3]}, body=bytes(8 + 1530)),
        forge(**{**FRAMES, "spec": 2, "shape": [1, 101, 100, 3]}, body=bytes(8 + 30_300)),
        forge(**{**FRAMES, "shape": [2, 3, 4, 4]}, body=bytes(2 * 8 + 96)),
        *(
            forge(**FRAMES, body=np.float64(times).tobytes() + bytes(72))
            for times in ([0, np.nan], [np.nan, 0], [np.inf, np.inf], [0, 1e13], [-1e300, 0], [1, 0.5])
        ),
        forge(**SOUND),
        forge(**SOUND, body=bytes(401)),
        forge(**SOUND, body=bytes(404)),
        forge(**{**SOUND, "spec": 1}, body=bytes(4)),
        forge(**SOUND, body=np.float32([np.nan]).tobytes()),
        forge(**{**SOUND, "start_seconds": float("nan")}, body=bytes(4)),
        forge(**{**SOUND, "start_seconds": -1e300}, body=bytes(4)),
        forge(**ERROR, body=b"more"),
        forge(**{**ERROR, "error": "SystemExit"}),
        forge(**{**ERROR, "message": "x" * 501}),
        forge(**{**ERROR, "message": "\x1b[2J"}),
        forge(**{**INFO_HEADER, "width": -1}),
        forge(**{**INFO_HEADER, "width": 1e400}),
        forge(**{**INFO_HEADER, "video_codec": "<script>"}),
        forge(**{**INFO_HEADER, "more": 1}),
        b"".join(encode_ready(LAYERS)),
    ],
)
def test_nothing_else_is(message: bytes) -> None:
    with pytest.raises(AnswerError):
        read(message)


def test_times_do_not_fall_from_one_chunk_to_the_next() -> None:
    given = Given()
    first, second = frames_of(1, 2, 50, 20, 3), frames_of(2, 1, 50, 20, 3)
    for chunk in (first, second, replace(first, times=np.array([0.5, 1.0]))):
        assert isinstance(read(b"".join(encode_event(chunk)), given), FrameChunk)
    with pytest.raises(AnswerError, match="fall"):
        read(b"".join(encode_event(replace(first, times=np.array([0.75, 2.0])))), given)


@pytest.mark.parametrize(
    ("chunk", "request_", "most"),
    [
        (frames_of(0, 1, 3, 4, 3), REQUEST, 2),  # a clip
        (frames_of(1, 1, 50, 20, 3), REQUEST, 7),  # two a second for three seconds, the first and the last among them
        (WaveformChunk(0, np.zeros(100, "f4"), 0.0), REQUEST, 7 * 160),  # from as long before the picture
        (frames_of(0, 1, 3, 4, 3), MediaRequest((FrameSpec(4, 3, rate=9.0),), source="pictures", num_pictures=3), 3),
    ],
)
def test_no_more_comes_than_was_asked_for(chunk: MediaEvent, request_: MediaRequest, most: int) -> None:
    """A worker that never ends would fill the service's memory until the deadline."""
    given, message = Given(), b"".join(encode_event(chunk))
    limits = replace(LIMITS, max_duration_seconds=3.0)
    for _ in range(most):
        assert not isinstance(read(message, given, request_, limits), ServiceError)
    with pytest.raises(AnswerError, match="more"):
        read(message, given, request_, limits)


def test_a_body_is_refused_before_room_is_made_for_it() -> None:
    text = json.dumps(FRAMES).encode()
    with pytest.raises(AnswerError, match="another size"):
        Answer(text, 2**32 - 1, REQUEST, LIMITS)
