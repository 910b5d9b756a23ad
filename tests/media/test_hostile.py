"""Files that want something else read, a connection made, or more memory than they are worth.

Everything here runs in a decoder worker, as in the service. The loopback canaries must not be touched.
"""

import asyncio
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.errors import InvalidMedia, MediaTooLarge, ServiceError, UnsupportedMedia
from app.media.request import FrameChunk, FrameSpec, MediaLimits, MediaRequest, MediaSummary, WaveformSpec
from app.media.sandbox import DecoderPool
from tests.media_maker import moving_frames, sine, write_sound, write_video

MALFORMED = Path(__file__).parents[2].parent / "shared/data/malformed"
BOTH = (
    MediaRequest(frames=(FrameSpec(32, 32, clip_length=4), FrameSpec(24, 24, fit="crop", rate=2.0))),
    MediaRequest(waveforms=(WaveformSpec(16_000, 16_000),)),
)


@pytest.fixture
def canary() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP and a UDP socket on loopback that no one should speak to."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        tcp.setblocking(False)
        udp.setblocking(False)
        yield tcp, udp


def decode(*paths: Path, limits: MediaLimits | None = None, request: MediaRequest = BOTH[0]) -> list[object]:
    """What the pool answers for each file: the frames it gives, or the error. Fails if a worker was lost."""

    async def read(pool: DecoderPool, path: Path) -> object:
        try:
            with path.open("rb") as file:
                deadline = asyncio.get_running_loop().time() + 60
                events = [event async for event in pool.read(file.fileno(), request, deadline)]
            assert isinstance(events[-1], MediaSummary)
            return [event.frames for event in events if isinstance(event, FrameChunk)]
        except ServiceError as error:
            return error

    async def run() -> list[object]:
        pool = DecoderPool(1, limits=limits)
        await pool.start()
        try:
            answers = [await read(pool, path) for path in paths]
            assert not pool.restarts["crashed"]
            return answers
        finally:
            await pool.close()

    return asyncio.run(run())


def test_nothing_but_the_file_itself_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary: tuple[socket.socket, socket.socket]
) -> None:
    tcp, udp = canary
    monkeypatch.chdir(tmp_path)
    secret = write_video(tmp_path / "secret.ts", moving_frames(10), 10)
    url = f"http://127.0.0.1:{tcp.getsockname()[1]}/secret.ts"
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "relative.ffconcat": "ffconcat version 1.0\nfile secret.ts\n",
        "absolute.ffconcat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "remote.ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "file.m3u8": playlist.format(f"file://{secret}"),
        "plain.m3u8": playlist.format("secret.ts"),
        "http.m3u8": playlist.format(url),
        "http.mp4": playlist.format(url),
        "key.m3u8": playlist.format(f'#EXT-X-KEY:METHOD=AES-128,URI="{url}"\nsecret.ts'),
        "stream.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
        f"m=video {udp.getsockname()[1]} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "redirect.mpd": f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}</BaseURL></Period></MPD>',
        "image%03d.png": "no picture",
        "link.asx": f'<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
        "text.txt": "plain text\n" * 100,
    }
    paths = []
    for name, text in texts.items():
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    answers = decode(*paths)
    assert [type(answer) for answer in answers] == [UnsupportedMedia] * len(texts)
    with pytest.raises(BlockingIOError):
        tcp.accept()
    with pytest.raises(BlockingIOError):
        udp.recv(1)


def test_bombs_are_refused_by_their_headers(tmp_path: Path) -> None:
    gif = tmp_path / "huge.gif"
    gif.write_bytes(b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2L\1\0;")
    png = tmp_path / "huge.png"
    header = struct.pack(">IIBBBBB", 16_000, 16_000, 16, 6, 0, 0, 0)
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(bytes(9))))
    video = write_video(
        tmp_path / "huge.mp4", np.zeros((1, 4096, 4096, 3), np.uint8), 1, options={"preset": "ultrafast"}
    )
    refused_gif, refused_png, refused_video = decode(gif, png, video)
    assert isinstance(refused_gif, InvalidMedia)
    assert isinstance(refused_png, UnsupportedMedia)
    assert isinstance(refused_video, MediaTooLarge)
    assert "4096 x 4096" in str(refused_video)


def test_the_decoder_holds_to_the_limit_where_the_header_lies(tmp_path: Path) -> None:
    """The stream's second half is larger than its header says, and larger than is allowed."""
    parts = []
    for number, size in enumerate([(96, 64), (320, 240)]):
        frames = np.full((100, size[1], size[0], 3), 90 + 60 * number, np.uint8)
        path = tmp_path / f"{number}.h264"
        parts.append(write_video(path, frames, 10, options={"bf": "0"}).read_bytes())
    path = tmp_path / "v.h264"
    path.write_bytes(b"".join(parts))
    [within] = decode(path)
    assert max(frames.max() for frames in within) > 140  # type: ignore[attr-defined]
    [limited] = decode(path, limits=MediaLimits(max_pixels=100 * 100))
    assert max(frames.max() for frames in limited) < 100  # type: ignore[attr-defined]


def test_too_many_streams(tmp_path: Path) -> None:
    import av

    path = tmp_path / "many.mp4"
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("aac", rate=8000, layout="mono") for _ in range(20)]
        for stream in streams:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate = 8000
            output.mux(stream.encode(frame))  # type: ignore[arg-type]
            output.mux(stream.encode())
    [answer] = decode(path, request=BOTH[1])
    assert isinstance(answer, MediaTooLarge)
    assert "more than 16 streams" in str(answer)


def test_a_job_that_needs_more_memory_than_it_is_allowed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", moving_frames(4), 10)
    large = MediaRequest(frames=(FrameSpec(1200, 1200, clip_length=3),))  # 13 MB in one chunk

    async def run() -> None:
        pool = DecoderPool(1, worker_memory_bytes=12 << 20)
        await pool.start()
        try:
            with path.open("rb") as file:
                deadline = asyncio.get_running_loop().time() + 60
                with pytest.raises(MediaTooLarge, match="more memory"):
                    _ = [event async for event in pool.read(file.fileno(), large, deadline)]
                assert pool.restarts == {"memory": 1}
                events = [event async for event in pool.read(file.fileno(), BOTH[0], deadline)]
            assert isinstance(events[-1], MediaSummary)
        finally:
            await pool.close()

    asyncio.run(run())


def test_sounds_that_no_decoder_or_resampler_takes(tmp_path: Path) -> None:
    """Found by mutation: the decoder opens late, or not at all, and the resampler refuses the channels."""
    wave = write_sound(tmp_path / "a.wav", sine(0.5, 16_000), 16_000).read_bytes()
    flac = write_sound(tmp_path / "a.mka", sine(0.5, 16_000), 16_000, "flac", container="matroska").read_bytes()
    header = flac.index(b"fLaC") + 8
    cases = {
        "channels.wav": wave[:22] + struct.pack("<H", 9) + wave[24:],
        "too_many_channels.wav": wave[:22] + struct.pack("<H", 1000) + wave[24:],
        "no_header.mka": flac[:header] + bytes(34) + flac[header + 34 :],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    answers = decode(*(tmp_path / name for name in cases), request=BOTH[1])
    unheard = "No sound of the file could be decoded."
    assert [str(answer) for answer in answers] == [
        "The sound has a rate or a number of channels that cannot be read.",
        unheard,
        unheard,
    ]


@pytest.mark.skipif(not MALFORMED.is_dir(), reason="needs the shared data")
def test_broken_and_hostile_files_of_all_sorts() -> None:
    """Each is answered by frames or by an error of the client's, no worker is lost, and nothing of ours is told."""
    slow = {"a_bomb_audio_6h.flac", "a_bomb_1000fps_20s.mp4"}
    paths = sorted(path for path in MALFORMED.rglob("*") if path.is_file() and path.name not in slow)
    assert len(paths) > 80
    before = set(Path.cwd().iterdir())
    for request in BOTH:
        for path, answer in zip(paths, decode(*paths, request=request), strict=True):
            if isinstance(answer, ServiceError):
                assert answer.status in (415, 422), path.name
                assert str(path.parent) not in str(answer)
                assert "cannot be decoded." not in str(answer), path.name  # what an error of our own comes back as
            else:
                assert isinstance(answer, list)
    assert set(Path.cwd().iterdir()) == before


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
