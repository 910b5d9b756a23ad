"""Rotation, mirrored pictures, pixels that are not square, and the four ways to fit."""

import gc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame

from app.media.decode import read_media
from app.media.request import FrameSpec, MediaInfo, MediaRequest
from tests.media.reference import read_frames
from tests.media_maker import write_video

CORNERS = {"top left": (255, 0, 0), "top right": (0, 255, 0), "bottom left": (0, 0, 255), "bottom right": (255, 255, 0)}
WIDE = (96, 64)


def corner_frames(width: int = 96, height: int = 64) -> np.ndarray:
    """(3, H, W, 3): a colour in each quarter."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2] = CORNERS["top left"]
    frame[: height // 2, width // 2 :] = CORNERS["top right"]
    frame[height // 2 :, : width // 2] = CORNERS["bottom left"]
    frame[height // 2 :, width // 2 :] = CORNERS["bottom right"]
    return np.stack([frame] * 3)


def read_one(path: Path, spec: FrameSpec, start_seconds: float | None = None) -> tuple[np.ndarray, MediaInfo]:
    [frames], events = read_frames(path, MediaRequest(frames=(spec,), start_seconds=start_seconds))
    assert isinstance(events[0], MediaInfo)
    return frames[0], events[0]


def quarters(frame: np.ndarray) -> list[str]:
    """The names of the colours in the middle of the top left, top right, bottom left and bottom right quarters."""
    height, width = frame.shape[:2]
    spots = [frame[y, x].astype(int) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [min(CORNERS, key=lambda name: np.abs(spot - CORNERS[name]).sum()) for spot in spots]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_video_is_turned_as_the_file_says(tmp_path: Path, rotation: int, mirrored: bool) -> None:
    path = write_video(tmp_path / "turned.mp4", corner_frames(), 10, rotation=rotation, mirrored=mirrored)
    frame, info = read_one(path, FrameSpec(0, 0, fit="keep", clip_length=1))
    names = np.array(list(CORNERS)).reshape(2, 2)
    # The writer turns counter-clockwise and mirrors after that.
    expected = np.rot90(names, rotation // 90)
    expected = expected[:, ::-1] if mirrored else expected
    assert quarters(frame) == expected.ravel().tolist()
    assert (info.width, info.height) == (frame.shape[1], frame.shape[0])
    assert (info.width, info.height) == (WIDE if rotation % 180 == 0 else WIDE[::-1])


@pytest.mark.parametrize("start_seconds", [None, 1.0])
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".h264"])  # of a transport stream, only the frames tell
def test_pixels_are_made_square(suffix: str, start_seconds: float | None, tmp_path: Path) -> None:
    frames, options = np.concatenate([corner_frames(72, 64)] * 10), {"x264-params": "keyint=5:min-keyint=5"}
    path = write_video(tmp_path / f"anamorphic{suffix}", frames, 10, aspect=Fraction(4, 3), options=options)
    spec = FrameSpec(0, 0, fit="keep", longest_side=48, clip_length=1)
    frame, info = read_one(path, spec, start_seconds)
    assert (info.width, info.height) == (96, 64)
    assert frame.shape == (32, 48, 3)
    assert quarters(frame) == list(CORNERS)


def test_pixels_are_made_square_before_the_video_is_turned(tmp_path: Path) -> None:
    path = write_video(tmp_path / "both.mp4", corner_frames(72, 64), 10, aspect=Fraction(4, 3), rotation=90)
    frame, info = read_one(path, FrameSpec(0, 0, fit="keep", clip_length=1))
    assert (info.width, info.height) == (64, 96)
    assert frame.shape == (96, 64, 3)


def test_stretch_fills_the_frame(tmp_path: Path) -> None:
    frame, _ = read_one(write_video(tmp_path / "v.mp4", corner_frames(), 10), FrameSpec(40, 40, clip_length=1))
    assert quarters(frame) == list(CORNERS)
    assert frame.shape == (40, 40, 3)


def test_crop_covers_the_frame_from_the_middle(tmp_path: Path) -> None:
    stripes = np.zeros((2, 64, 128, 3), np.uint8)
    stripes[:, :, 32:96] = 255  # the middle square is white
    path = write_video(tmp_path / "v.mp4", stripes, 10)
    frame, _ = read_one(path, FrameSpec(32, 32, fit="crop", clip_length=1))
    assert frame[:, 2:-2].min() > 240
    left, _ = read_one(path, FrameSpec(64, 32, fit="crop", clip_length=1))
    assert left[:, :14].max() < 15


def test_pad_adds_black_bars(tmp_path: Path) -> None:
    white = np.full((2, 64, 128, 3), 255, np.uint8)
    frame, _ = read_one(write_video(tmp_path / "v.mp4", white, 10), FrameSpec(40, 40, fit="pad", clip_length=1))
    assert not frame[:10].any()
    assert not frame[30:].any()
    assert frame[10:30].min() > 240


@pytest.mark.parametrize(("longest_side", "size"), [(48, (48, 32)), (500, (96, 64)), (0, (96, 64)), (1, (1, 1))])
def test_keep_shrinks_and_never_enlarges(tmp_path: Path, longest_side: int, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "v.mp4", corner_frames(), 10)
    frame, _ = read_one(path, FrameSpec(0, 0, fit="keep", longest_side=longest_side, clip_length=1))
    assert frame.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad", "keep"])
@pytest.mark.parametrize("size", [(4096, 2), (2, 1024), (2, 2)])
def test_extreme_shapes(tmp_path: Path, size: tuple[int, int], fit: str) -> None:
    frames = np.full((2, size[1], size[0], 3), 200, np.uint8)
    path = write_video(tmp_path / "v.mkv", frames, 10, "libx264")
    spec = FrameSpec(33, 67, fit=fit, longest_side=33, clip_length=1)  # type: ignore[arg-type]
    frame, info = read_one(path, spec)
    assert (info.width, info.height) == size
    assert frame.shape[:2] == (67, 33) or (fit == "keep" and max(frame.shape[:2]) == min(33, max(size)))
    assert 190 < frame.max() < 210


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "yuv422p", "yuv420p10le"])
def test_colours_are_right_in_every_pixel_format(tmp_path: Path, pixels: str) -> None:
    frame, _ = read_one(
        write_video(tmp_path / "v.mp4", corner_frames(), 10, pixels=pixels, options={"crf": "1"}),
        FrameSpec(48, 32, clip_length=1),
    )
    for spot, colour in zip(((8, 12), (8, 36), (24, 12), (24, 36)), CORNERS.values(), strict=True):
        # 8-bit YUV and its rounding in swscale are off by up to 3; a wrong matrix or range is off by 10 and more.
        assert np.abs(frame[spot].astype(int) - colour).max() <= 5


def test_odd_sizes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "odd.webm", corner_frames(97, 63), 10, "libvpx-vp9")
    frame, info = read_one(path, FrameSpec(0, 0, fit="keep", clip_length=1))
    assert (info.width, info.height) == (97, 63)
    assert frame.shape == (63, 97, 3)
    assert quarters(frame) == list(CORNERS)


def test_a_frame_is_let_go_of_once_it_is_scaled(tmp_path: Path) -> None:
    """Also where nobody collects what refers to each other: each may be megabytes."""
    path = write_video(tmp_path / "v.mp4", np.concatenate([corner_frames()] * 10), 10)
    request = MediaRequest(frames=(FrameSpec(24, 16, rate=10.0, chunk_length=5),))
    most = 0
    gc.collect()
    gc.disable()
    try:
        with path.open("rb") as file:
            for _ in read_media(file, request):
                most = max(most, sum(type(thing) is VideoFrame for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert 1 <= most <= 4  # of 30: those in the hands of the decoder's callers, and what it gave back last
