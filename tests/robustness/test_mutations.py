"""Videos and sounds that were whole once, over HTTP and to the workers directly."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle

import av
import pytest

from app.errors import ServiceError
from app.media.pictures import pack_pictures
from app.media.request import FrameSpec, MediaRequest, WaveformSpec
from app.media.sandbox import DecoderPool
from tests.media_maker import moving_frames
from tests.robustness import scale
from tests.robustness.mutations import mutated, real_files
from tests.robustness.processes import decoders, memory_mb, reset_peak
from tests.server import RunningServer

ROUTES = (
    "/classify",
    "/classify?model=tiny-rate&timeline=true",
    "/classify?sampling=fast&start_seconds=0.2",
    "/predict?horizon=2",
    "/features",
    "/classify?model=tiny-listener&timeline=true",
)
REQUESTS = (
    MediaRequest(frames=(FrameSpec(32, 32, clip_length=4), FrameSpec(24, 24, fit="crop", rate=2.0))),
    MediaRequest(frames=(FrameSpec(32, 32, clip_length=4),), sampling="fast", start_seconds=0.1, end_seconds=0.4),
    MediaRequest(
        frames=(FrameSpec(0, 0, fit="keep", longest_side=32, rate=5.0),), waveforms=(WaveformSpec(8000, 800),)
    ),
    MediaRequest(waveforms=(WaveformSpec(16_000, 16_000),)),
    MediaRequest(),
)
PICTURES = MediaRequest(source="pictures", num_pictures=1, frames=(FrameSpec(32, 32),))


def post_all(server: RunningServer, contents: Iterable[bytes]) -> Counter[int]:
    """The statuses of all answers."""
    statuses: Counter[int] = Counter()
    with server.client() as client:
        for content, route in zip(contents, cycle(ROUTES), strict=False):
            answer = client.post(route, content=content, headers={"Content-Type": "application/octet-stream"})
            statuses[answer.status_code] += 1
            assert answer.status_code == 200 or answer.json()["request_id"], answer.text
    return statuses


def attack(server: RunningServer, contents: Iterator[bytes]) -> None:
    with server.client() as client:
        assert client.post("/classify", content=next(contents)).status_code < 500
    idle_mb = memory_mb(server.process.pid)
    reset_peak(server.process.pid)
    statuses = post_all(server, contents)
    peak_mb = memory_mb(server.process.pid, "VmHWM")
    workers = [round(memory_mb(pid, "VmHWM")) for pid in decoders(server.process.pid)]
    with server.client() as client:
        assert client.get("/health/ready").json()["status"] == "ready"
    crashes = server.metrics()['afterframe_decoder_worker_restarts_total{reason="crashed"}']
    print(f"statuses {dict(statuses)}, crashes {crashes:.0f}")
    print(f"server {idle_mb:.0f} -> {peak_mb:.0f} MB, workers {workers} MB")
    assert set(statuses) <= {200, 413, 415, 422}
    assert server.process.poll() is None
    assert peak_mb < idle_mb + 150
    assert max(workers) < 1024
    assert not crashes


def decode_all(contents: Iterable[bytes], requests: Iterable[MediaRequest]) -> Counter[str]:
    """What the workers of a pool answer, by kind."""
    jobs = zip(contents, cycle(requests), strict=False)
    outcomes: Counter[str] = Counter()

    async def run() -> None:
        pool = DecoderPool(2)
        await pool.start()
        try:
            await asyncio.gather(*(decode(pool) for _ in range(2)))
            outcomes.update({f"worker {reason}": count for reason, count in pool.restarts.items()})
        finally:
            await pool.close()

    async def decode(pool: DecoderPool) -> None:
        while (job := next(jobs, None)) is not None:
            content, request = job
            descriptor = os.memfd_create("upload")
            try:
                os.write(descriptor, content)
                deadline = asyncio.get_running_loop().time() + 30
                async for _ in pool.read(descriptor, request, deadline):
                    pass
                outcomes["decoded"] += 1
            except ServiceError as error:
                own = str(error) == "The file cannot be decoded."  # what an error of ours comes back as
                outcomes["error of ours" if own else type(error).__name__] += 1
            finally:
                os.close(descriptor)

    asyncio.run(run())
    print(dict(outcomes))
    return outcomes


def check(outcomes: Counter[str], count: int) -> None:
    expected = {"decoded", "InvalidMedia", "UnsupportedMedia", "MediaTooLarge"}
    assert sum(outcomes[name] for name in expected) == count
    assert set(outcomes) - expected <= {"worker recycled", "worker memory"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A JPEG, a PNG and a WebP."""
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for codec, pixels in (("mjpeg", "yuvj420p"), ("png", "rgb24"), ("libwebp", "yuv420p")):
        path = folder / codec
        with av.open(str(path), "w", format="image2", options={"update": "1"}) as output:
            stream = output.add_stream(codec, rate=1)
            stream.width, stream.height, stream.pix_fmt = 48, 32, pixels  # type: ignore[attr-defined]
            output.mux(stream.encode(av.VideoFrame.from_ndarray(moving_frames(1, 48, 32)[0], "rgb24")))  # type: ignore[arg-type]
            output.mux(stream.encode())
        made.append(path.read_bytes())
    return made


def test_some_over_http(attacked: RunningServer, files: list[bytes]) -> None:
    attack(attacked, mutated(files, 120, scale.SEED))


def test_some_to_the_workers(files: list[bytes], pictures: list[bytes]) -> None:
    check(decode_all(mutated(files, 600, scale.SEED), REQUESTS), 600)
    packs = (pack_pictures([content]) for content in mutated(pictures, 100, scale.SEED))
    check(decode_all(packs, [PICTURES]), 100)


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_many_over_http(attacked: RunningServer, files: list[bytes]) -> None:
    attack(attacked, mutated(files + real_files(), scale.HTTP_MUTATIONS, scale.SEED + 1))


@pytest.mark.robustness
@pytest.mark.timeout(0)
def test_many_to_the_workers(files: list[bytes], pictures: list[bytes]) -> None:
    count = scale.WORKER_MUTATIONS
    check(decode_all(mutated(files + real_files(), count, scale.SEED + 2), REQUESTS), count)
    packs = (pack_pictures([content]) for content in mutated(pictures, count // 10, scale.SEED + 3))
    check(decode_all(packs, [PICTURES]), count // 10)
