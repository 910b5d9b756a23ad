"""Every real clip that decodes: exact sampling against decoding everything, and what the pool says of each file."""

import asyncio
from pathlib import Path

import av
import pytest

from app.errors import ServiceError
from app.media.request import FrameSpec, MediaRequest, MediaSummary
from app.media.sandbox import DecoderPool
from tests.media.reference import read_frames
from tests.media.test_exact import check

CLIPS = Path(__file__).parents[2].parent / "shared/data/clips"
pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason="needs the shared data")

FEW = (
    "decord__unordered.mov",
    "decord__video_90.mov",
    "lipnet__bbaf2n.mpg",
    "media__bbb_176x144_128kbps_15fps_h263.3gp",
    "media__bear-vp9-odd-dimensions.webm",
    "media__fragmented_captions_h265.mp4",
    "media__iibbibb_editlist_videoonly.mp4",
    "media__preroll-5s.mp4",
    "media__sample-with-key-frame-index.flv",
    "media__sample_edit_list_only_preroll_sync_sample.mp4",
    "media__sample_h262_mpeg_audio.ts",
    "media__sample_sef_slow_motion.mp4",
    "media__sample_with_pgs_subtitles.mkv",
    "media__sample_without_stss.mp4",
    "media__water_180_mvhevc_5frames.mov",
    "moviepy__no_duration.webm",
    "test_images__newtonscradle.gif",
    "torchcodec__h264_10bits.mp4",
)
NO_VIDEO = {".wav", ".mp3", ".flac", ".ogg", ".aac", ".m4a", ".png", ".jpg", ".bmp"}
NOT_TAKEN = {"media__sample_vvc.mp4", "media__sample_with_sdt.ts"}
"""A codec that is not on the list, and a stream without a single whole frame."""


def clips() -> list[Path]:
    """All files that may hold a video."""
    return sorted(path for path in CLIPS.iterdir() if path.suffix not in NO_VIDEO) if CLIPS.is_dir() else []


def has_video(path: Path) -> bool:
    with av.open(str(path), metadata_errors="replace") as container:
        return bool(container.streams.video)


@pytest.mark.parametrize("name", FEW)
def test_a_clip_is_sampled_exactly(name: str) -> None:
    check(CLIPS / name)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", clips(), ids=lambda path: path.name)
def test_every_clip_is_sampled_exactly(path: Path) -> None:
    if path.name in NOT_TAKEN or not has_video(path):
        with pytest.raises(ServiceError):
            read_frames(path, MediaRequest(frames=(FrameSpec(32, 32, clip_length=4),)))
    else:
        check(path)


def test_every_clip_is_answered() -> None:
    """Through the pool, in the way of the service: frames where there is a video that decodes, else the reason."""
    request = MediaRequest(frames=(FrameSpec(32, 32, clip_length=4),), sampling="fast", end_seconds=10.0)

    async def run() -> dict[str, str]:
        refused = {}
        pool = DecoderPool(2)
        await pool.start()
        try:
            for path in clips():
                with path.open("rb") as file:
                    deadline = asyncio.get_running_loop().time() + 60
                    try:
                        events = [event async for event in pool.read(file.fileno(), request, deadline)]
                        assert isinstance(events[-1], MediaSummary)
                    except ServiceError as error:
                        refused[path.name] = str(error)
            assert not pool.restarts
        finally:
            await pool.close()
        return refused

    refused = asyncio.run(run())
    assert {name for name, reason in refused.items() if "no moving picture" not in reason} == NOT_TAKEN
    assert len(clips()) - len(refused) > 100
