"""Which packets of a video stream the decoder needs for some of its frames, told without decoding."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from app.media.bitstream import CLEAN, DISPOSABLE, HEADERS, HIDDEN, LAYER_SHIFT, ODD, classifier, classify_packet
from app.media.clock import FileClock
from app.media.timeline import Timeline, last_duration

Indices = NDArray[np.int64]

SMALL_BYTES = 32 << 20
"""A file up to this size is planned as a whole before anything of it is decoded."""
KEPT_BYTES = 8 << 20
"""Packets of files up to this size are kept, by each worker; those of larger ones are read a second time."""
_MAX_KEPT_PACKETS = 8192
"""Each takes half a kilobyte besides its data."""

_Stream = TypeVar("_Stream", VideoStream, AudioStream)


def demux(container: InputContainer, stream: _Stream) -> "Iterator[Packet[_Stream]]":
    """The stream's packets as far as the file can be read."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except MemoryError:
            raise
        except (StopIteration, av.FFmpegError, OSError):
            return
        except IndexError:  # PyAV's, at the end of a file in which a stream appeared that its header does not have
            return
        if packet.size:
            yield packet


@dataclass(frozen=True, slots=True)
class PacketTable:
    """Every packet of a stream, in the file's order, where all of them can be accounted for."""

    pts: Indices
    """(P,) ticks."""
    flags: NDArray[np.uint16]
    """(P,) of `app.media.bitstream`."""
    shown: NDArray[np.int32]
    """(P,) index into the timeline; -1: nothing is displayed."""
    timeline: Timeline
    """What is displayed if everything decodes."""
    kept: "list[Packet[VideoStream]] | None"
    """The packets themselves, where they are small enough to be kept; else they have to be read again."""

    @property
    def key_frames(self) -> NDArray[np.int32]:
        """Timeline indices of the frames that decode alone, in display order."""
        return np.sort(self.shown[(self.flags & CLEAN > 0) & (self.shown >= 0)])

    @property
    def is_reordered(self) -> bool:
        """Whether frames are displayed in another order than they are decoded."""
        return bool(np.any(self.pts[1:] < self.pts[:-1]))

    @property
    def has_lead(self) -> bool:
        """Whether frames come before the first CLEAN packet, in the file or on display. In a recording that was cut
        they refer to what is not there, and are not displayed."""
        clean = np.flatnonzero(self.flags & CLEAN)
        return bool(len(clean)) and bool(clean[0] > 0 or self.timeline.times[0] < self.pts[clean[0]])

    def without_lead(self, first_pts: int | None) -> "PacketTable | None":
        """What is displayed where the first frame that decodes is that of `first_pts`; None where no packet has it."""
        if first_pts is None or first_pts not in self.timeline.times:
            return None
        is_left = (self.shown >= 0) & (self.pts >= first_pts)
        times = np.sort(self.pts[is_left])
        shown = np.where(is_left, np.searchsorted(times, self.pts), -1).astype(np.int32)
        return replace(self, shown=shown, timeline=replace(self.timeline, times=times))


@dataclass(frozen=True, slots=True)
class Plan:
    """The packets to decode for some frames."""

    feed: NDArray[np.bool_]
    """(P,) whether a packet goes to the decoder."""
    restarts: frozenset[int]
    """Packets before which the decoder is emptied and begins anew."""
    entries: tuple[int, ...]
    """Packets, rising, of which each could be the first that a decoder is given."""
    last: int
    """The last packet to read."""
    produced: NDArray[np.int32]
    """Timeline indices of the frames that must come out, in this order."""


def read_packets(container: InputContainer, stream: VideoStream) -> PacketTable | None:
    """The stream's packets; None where the time or the place of any of them is in doubt."""
    if stream.time_base is None:
        return None
    pts, flags, classify = array("q"), array("H"), classifier(stream)
    clock, dts = FileClock(container, stream.time_base), None
    final_pts, final_duration = None, None
    kept: list[Packet[VideoStream]] | None = [] if 0 < container.size <= KEPT_BYTES else None
    for packet in demux(container, stream):
        found = classify_packet(packet, classify)
        moved = pts and packet.has_sidedata("new_extradata")
        if found & ODD or moved or packet.pts is None or packet.is_corrupt:
            return None
        if packet.dts is not None:
            if dts is not None and clock.is_set_anew(dts, packet.dts):
                return None
            dts = packet.dts
        if packet.is_discard:  # before the start of an edit list: decoded, never displayed
            found |= HIDDEN
        elif not found & HIDDEN and (final_pts is None or packet.pts > final_pts):
            final_pts, final_duration = packet.pts, packet.duration
        if kept is not None:
            kept.append(packet)
            if len(kept) > _MAX_KEPT_PACKETS:
                kept = None
        pts.append(packet.pts)
        flags.append(found)
    if final_pts is None:
        return None
    all_pts, all_flags = np.frombuffer(pts, np.int64), _trusted(np.frombuffer(flags, np.uint16))
    is_shown = all_flags & HIDDEN == 0
    times = all_pts[is_shown]
    times.sort()
    if np.any(times[1:] == times[:-1]):
        return None
    end = final_pts + last_duration(times, final_duration, stream.average_rate, stream.time_base)
    shown = np.searchsorted(times, all_pts).astype(np.int32)
    shown[~is_shown] = -1
    timeline = Timeline(times, end, stream.time_base)
    return PacketTable(all_pts, all_flags, shown, timeline, kept)


def _trusted(flags: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The flags, less those that hold for a packet but not for the file.

    A frame that is no reference within its temporal layer may be one for the layers above. Where parameters come in
    between, a packet without its own may need those of one that would be left out.
    """
    layers, carries = flags >> LAYER_SHIFT, flags & HEADERS > 0
    flags = np.where((layers < layers.max()) | carries, flags & ~np.uint16(DISPOSABLE), flags)
    between = carries[1:-1]
    if np.any(between & (flags[1:-1] & CLEAN == 0)):
        return flags & ~np.uint16(CLEAN)
    if between.any():
        return np.where(carries, flags, flags & ~np.uint16(CLEAN))
    return flags


def plan_decoding(table: PacketTable, wanted: Indices) -> Plan:
    """The fewest packets that surely give the frames `wanted` (sorted timeline indices) just as they are.

    The file is taken in segments that begin at CLEAN packets. A segment is read as far as its last wanted frame,
    without what is DISPOSABLE; it is left out where nothing of it is wanted. Frames that follow the first packet of a
    segment and are displayed before it (an open group of pictures) also need the whole segment before.
    """
    num_packets = len(table.flags)
    is_asked = np.zeros(len(table.timeline.times) + 1, np.bool_)  # the last one answers for -1
    is_asked[wanted] = True
    is_wanted = is_asked[table.shown]
    needed = (table.flags & DISPOSABLE == 0) | is_wanted
    feed = np.zeros(num_packets, np.bool_)
    starts = np.unique(np.append(np.flatnonzero(table.flags & CLEAN), 0))
    restarts: set[int] = set()
    entries: list[int] = []
    builds_on_it = False  # the segment after this one
    for start, end in zip(starts[::-1], np.append(starts[1:], num_packets)[::-1], strict=True):
        found = np.flatnonzero(is_wanted[start:end])
        stop = end if builds_on_it else start + int(found[-1]) + 1 if len(found) else start
        feed[start:stop] = needed[start:stop]
        complete = bool(np.array_equal(feed[start:end], needed[start:end]))
        if not complete:
            restarts.add(int(end))  # what follows, if anything, does not continue from here
        leading = table.pts[start:stop] < table.pts[start]
        builds_on_it = bool(start and (leading & is_wanted[start:stop]).any())
        if stop > start and not builds_on_it:
            entries.append(int(start))
            if start:
                feed[start:stop] &= ~leading
                feed[start] = True
    fed = np.flatnonzero(feed)
    produced = np.sort(table.shown[fed][table.shown[fed] >= 0])
    return Plan(feed, frozenset(restarts), tuple(reversed(entries)), int(fed[-1]), produced)
