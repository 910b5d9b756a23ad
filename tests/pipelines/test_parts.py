"""How a video is cut into parts, chunk by chunk, with shots that become known late."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
import pytest

from app.media.request import FrameChunk, FrameSpec
from app.pipelines.parts import Parts

RATE, LIMIT = 4.0, 16


@dataclass
class KnownShots:
    """What a finder of shots says, given rather than found."""

    joins: list[float] = field(default_factory=list)
    known_seconds: float = 0.0


def cut(
    num_frames: int, joins: list[float] | None = None, lag: float = 0.0, chunk: int = 5, rate: float = RATE
) -> list[tuple[float, float]]:
    """[start, end) in seconds of the parts of a video that comes in chunks, joins being known `lag` seconds late."""
    found: list[tuple[float, float, int]] = []

    async def take(frames: np.ndarray, start: float, end: float) -> None:
        found.append((start, end, len(frames)))

    async def run() -> None:
        shots = None if joins is None else KnownShots()
        parts = Parts(FrameSpec(8, 6, rate=rate), LIMIT, take, shots)  # type: ignore[arg-type]  # all that Parts asks of a ShotFinder
        for start in range(0, num_frames, chunk):
            times = np.arange(start, min(start + chunk, num_frames)) / rate
            if shots is not None and joins is not None:
                shots.known_seconds = max(0.0, float(times[-1]) - lag)
                shots.joins = [join for join in joins if join <= shots.known_seconds]
            await parts.add(FrameChunk(0, np.zeros((len(times), 6, 8, 3), np.uint8), times))
        if shots is not None and joins is not None:
            shots.known_seconds, shots.joins = float("inf"), joins
        await parts.finish()

    asyncio.run(run())
    assert all(round((end - start) * rate) == length <= LIMIT for start, end, length in found)
    assert [start for start, *_ in found[1:]] == [end for _, end, _ in found[:-1]]
    assert (found[0][0], found[-1][1]) == (0.0, num_frames / rate)
    return [(start, end) for start, end, _ in found]


@pytest.mark.parametrize(
    ("num_frames", "bounds"),
    [(1, []), (16, []), (17, [2.25]), (31, [4.0]), (40, [4.0, 7.0])],
)
def test_without_shots_parts_are_as_long_as_may_be_and_none_is_a_scrap(num_frames: int, bounds: list[float]) -> None:
    assert [end for _, end in cut(num_frames)[:-1]] == bounds


@pytest.mark.parametrize("lag", [0.0, 1.3, 9.0])
def test_parts_are_the_shots_however_late_they_are_known(lag: float) -> None:
    assert cut(48, [2.0, 4.5, 8.0], lag) == [(0, 2), (2, 4.5), (4.5, 8), (8, 12)]


def test_a_long_shot_is_several_parts_alike() -> None:
    assert cut(40, [6.0]) == [(0, 3), (3, 6), (6, 10)]


def test_joins_that_follow_at_once_are_one() -> None:
    assert cut(24, [2.0, 2.25, 2.4, 4.0]) == [(0, 2), (2, 4), (4, 6)]


def test_a_join_right_at_the_beginning_is_none() -> None:
    assert cut(12, [0.0, 0.25]) == [(0, 3)]


def test_a_part_has_a_frame_however_few_there_are_a_second() -> None:
    assert cut(4, [0.5], rate=1.0) == [(0, 1), (1, 4)]
