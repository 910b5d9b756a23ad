"""Groups of pictures that do not depend on each other, several decoded at once where cores are idle.

The threads of a single decoder wait for each other wherever a frame refers to the one before it, and have little to do
where few frames of a group are wanted. Groups never wait: on two cores they take half the time, for the same CPU time.
"""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapreplace
from itertools import islice
from threading import Event, local
from typing import TYPE_CHECKING

import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from app.media.decoding import SurpriseError, decode_planned
from app.media.frames import FrameCollector
from app.media.packets import PacketTable, Plan
from app.media.request import FrameChunk, FrameSpec
from app.media.scaling import displayed_size
from app.media.timeline import Pick, Timeline

if TYPE_CHECKING:
    from av.packet import Packet

_AHEAD = 2
"""Groups for each decoder that may be begun and not yet given back: one that takes longer holds up no decoder."""
_MAX_HELD_BYTES = 32 << 20
"""Of the frames of those groups."""
_MAX_GROUPS = 64
"""Where there are more, neighbours are joined."""
_LEAST_SPEEDUP = 0.75
"""For each decoder. On two cores, a single decoder with threads of its own is 1.2 to 1.7 times as fast as without."""


class AtOnceError(Exception):
    """Groups could not be decoded at once: something is wrong with the file, or there is too little memory for several
    decoders, which FFmpeg often calls invalid data as well. One decoder can tell."""


@dataclass(frozen=True, slots=True)
class Group:
    """Packets that a decoder can begin with."""

    first: int
    """Number of its first packet in the file; the packets in `plan` are counted from there."""
    plan: Plan
    picks: tuple[Pick, ...]
    """What each spec wants of its frames."""


_Look = tuple[tuple[int, int], Fraction]
"""Of a frame: (width, height) as displayed, and width / height of a pixel. Where it changes, frames are scaled to fit
the first one of the file, which only one decoder has seen."""


@dataclass(frozen=True, slots=True)
class DecodedGroup:
    look: _Look
    """Of each of its frames."""
    num_decoded: int
    """Frames."""
    chunks: list[FrameChunk]
    """Of all specs; those of one spec in order."""


def plan_at_once(
    plan: Plan, table: PacketTable, specs: Sequence[FrameSpec], picks: Sequence[Pick], num_decoders: int
) -> list[Group]:
    """The groups of `plan` for `num_decoders` decoders; `picks` says which frames each spec wants.

    There are none where one decoder with threads of its own is as fast, or where too many frames would have to be held.
    """
    sides = [spec.longest_side or max(spec.width, spec.height) for spec in specs]
    if num_decoders < 2 or not all(sides):
        return []
    groups = _split(plan, table, picks)
    if not groups or _speedup(groups, num_decoders) < _LEAST_SPEEDUP * num_decoders:
        return []
    longest = [max(len(group.picks[number].indices) for group in groups) for number in range(len(specs))]
    held = _AHEAD * num_decoders * sum(3 * side**2 * length for side, length in zip(sides, longest, strict=True))
    return groups if held <= _MAX_HELD_BYTES else []


def _split(plan: Plan, table: PacketTable, picks: Sequence[Pick]) -> list[Group]:
    """At most _MAX_GROUPS; none where a frame of one is displayed after the first frame of the next."""
    entries = np.array(plan.entries)
    fed_before = np.cumsum(plan.feed)[entries] - 1
    _, chosen = np.unique(fed_before * _MAX_GROUPS // int(np.count_nonzero(plan.feed)), return_index=True)
    firsts = entries[chosen].tolist()
    groups = []
    for first, end in zip(firsts, [*firsts[1:], plan.last + 1], strict=True):
        feed = plan.feed[first:end]
        shown = table.shown[first:end][feed]
        produced = np.sort(shown[shown >= 0])
        part = Plan(feed, frozenset(), (0,), int(np.flatnonzero(feed)[-1]), produced)
        groups.append(Group(first, part, tuple(_within(pick, produced) for pick in picks)))
    return groups if np.array_equal(np.concatenate([group.plan.produced for group in groups]), plan.produced) else []


def _within(pick: Pick, produced: NDArray[np.int32]) -> Pick:
    first, end = np.searchsorted(pick.indices, (produced[0], produced[-1] + 1))
    return Pick(pick.indices[first:end], pick.moments[first:end])


def _speedup(groups: Sequence[Group], num_decoders: int) -> float:
    """How many times as fast the groups are decoded at once, if every packet takes equally long."""
    lengths = [int(np.count_nonzero(group.plan.feed)) for group in groups]
    busy_until = [0] * num_decoders
    for length in lengths:
        heapreplace(busy_until, busy_until[0] + length)
    return sum(lengths) / max(busy_until)


class GroupDecoder:
    """A decoder that takes groups in the order of the file, none of them twice."""

    def __init__(
        self,
        stream: VideoStream,
        packets: "Iterable[Packet[VideoStream]]",
        timeline: Timeline,
        specs: Sequence[FrameSpec],
    ) -> None:
        """`stream`: of a container that nobody else uses. `packets`: all that the file has of it."""
        self._stream = stream
        self._packets = iter(packets)
        self._position = 0
        self._timeline = timeline
        self._specs = specs

    def decode(self, group: Group, stop: Event) -> DecodedGroup:
        """Raises SurpriseError where something comes out that was not planned, or once `stop` is set."""
        if self._position:
            self._stream.codec_context.flush_buffers()
        packets = islice(self._packets, group.first - self._position, None)
        self._position = group.first + group.plan.last + 1
        collectors = [
            FrameCollector(number, spec, pick)
            for number, (spec, pick) in enumerate(zip(self._specs, group.picks, strict=True))
        ]
        look: _Look | None = None
        chunks: list[FrameChunk] = []
        num_decoded = 0
        for index, frame in decode_planned(packets, self._stream, group.plan, self._timeline):
            if stop.is_set():
                break
            aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio or Fraction(1)
            found = displayed_size(frame, aspect), aspect
            if found != (look := look or found):
                raise SurpriseError
            num_decoded += 1
            for collector in collectors:
                chunks.extend(collector.add(index, frame, aspect))
        if look is None or stop.is_set():
            raise SurpriseError
        return DecodedGroup(look, num_decoded, chunks)


def decode_at_once(groups: Sequence[Group], decoders: Sequence[GroupDecoder]) -> Generator[DecodedGroup]:
    """The groups in their order, each by the next decoder that has nothing to do.

    Raises SurpriseError where one does not decode as planned or looks unlike the first, RuntimeError where no thread
    can be started.
    """
    unused = iter(decoders)
    own = local()  # a thread is given groups in order; a decoder that threads shared might be given an earlier one
    may_decode, stop = Event(), Event()

    def begin() -> None:
        own.decoder = next(unused)

    def decode(group: Group) -> DecodedGroup:
        may_decode.wait()
        decoded: DecodedGroup = own.decoder.decode(group, stop)
        return decoded

    ahead: deque[Future[DecodedGroup]] = deque()
    look: _Look | None = None
    waiting = iter(groups)
    with ThreadPoolExecutor(len(decoders), "group", begin) as threads:
        try:
            while True:
                for group in islice(waiting, _AHEAD * len(decoders) - len(ahead)):
                    ahead.append(threads.submit(decode, group))
                may_decode.set()  # all threads have begun: a start that finds no memory may never come back
                if not ahead:
                    return
                decoded = ahead.popleft().result()
                if decoded.look != (look := look or decoded.look):
                    raise SurpriseError
                yield decoded
        finally:
            stop.set()
            may_decode.set()
            threads.shutdown(cancel_futures=True)
