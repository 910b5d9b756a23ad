"""Groups of pictures that do without each other, several decoded at once where cores are idle.

A decoder's own threads wait for each other wherever a frame refers to the one before it, and have little to do where
few frames of a group are wanted. Groups never wait: on two cores they come in half the time, for the same CPU time.
"""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapreplace
from itertools import islice
from queue import SimpleQueue
from threading import Event
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
"""Groups a decoder that are decoded and not yet given back, so that none waits long for one that takes longer."""
_MAX_HELD_BYTES = 32 << 20
"""Of their frames."""
_MAX_GROUPS = 64
_LEAST_SPEEDUP = 0.75
"""Of a decoder more. On two cores a decoder's own threads come to 1.2 to 1.7 of one."""


@dataclass(frozen=True, slots=True)
class Group:
    """Packets with which a decoder can begin that knows nothing of what comes before."""

    first: int
    """Of the file's packets; those of `plan` are counted from this one."""
    plan: Plan
    picks: tuple[Pick, ...]
    """Its frames among those of each spec."""


_Look = tuple[tuple[int, int], Fraction]
"""Of every frame: (width, height) as displayed, and the aspect of a pixel. Where it changes, what becomes of a frame
hangs on the first one of all."""


@dataclass(frozen=True, slots=True)
class DecodedGroup:
    """What a group gave."""

    look: _Look
    num_decoded: int
    chunks: list[FrameChunk]


def plan_at_once(
    plan: Plan, table: PacketTable, specs: Sequence[FrameSpec], picks: Sequence[Pick], num_decoders: int
) -> list[Group]:
    """The groups of `plan`, to be decoded by so many decoders.

    None where a decoder's own threads would be as fast, or the frames that are held meanwhile too many.
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
    """Groups, small ones together, of which each is displayed before the next; none where they are not."""
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
    """How many times as fast the groups are decoded at once, if all packets take as long."""
    lengths = [int(np.count_nonzero(group.plan.feed)) for group in groups]
    busy_until = [0] * num_decoders
    for length in lengths:
        heapreplace(busy_until, busy_until[0] + length)
    return sum(lengths) / max(busy_until)


class GroupDecoder:
    """A decoder that is given groups in the order of the file, never twice the same."""

    def __init__(
        self,
        stream: VideoStream,
        packets: "Iterable[Packet[VideoStream]]",
        timeline: Timeline,
        specs: Sequence[FrameSpec],
    ) -> None:
        """`packets`: all of the file's. `stream`: with a decoder that nobody else uses."""
        self._stream = stream
        self._packets = iter(packets)
        self._position = 0
        self._timeline = timeline
        self._specs = specs

    def decode(self, group: Group, stop: Event) -> DecodedGroup:
        """Raises SurpriseError where something else comes out than is planned, or when `stop` is set."""
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
    """Each group, in their order. Raises SurpriseError where one does not decode as planned, or looks different."""
    free: SimpleQueue[GroupDecoder] = SimpleQueue()
    for decoder in decoders:
        free.put(decoder)
    stop = Event()

    def decode(group: Group) -> DecodedGroup:
        decoder = free.get()
        try:
            return decoder.decode(group, stop)
        finally:
            free.put(decoder)

    ahead: deque[Future[DecodedGroup]] = deque()
    look: _Look | None = None
    waiting = iter(groups)
    with ThreadPoolExecutor(len(decoders), "group") as threads:
        try:
            while True:
                for group in islice(waiting, _AHEAD * len(decoders) - len(ahead)):
                    try:
                        ahead.append(threads.submit(decode, group))
                    except RuntimeError as error:  # no thread can be started
                        raise SurpriseError from error
                if not ahead:
                    return
                decoded = ahead.popleft().result()
                if decoded.look != (look := look or decoded.look):
                    raise SurpriseError
                yield decoded
        finally:
            stop.set()
            threads.shutdown(cancel_futures=True)
