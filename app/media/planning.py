"""What of a video file has to be decoded for the frames of a request, told before any of them is decoded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from app.media.decoding import SurpriseError, decode_all
from app.media.groups import Group, plan_at_once
from app.media.packets import Plan, demux, plan_decoding, read_packets
from app.media.probe import Readable, open_video
from app.media.request import MediaLimits, MediaRequest
from app.media.timeline import Choice, Pick, Timeline, choose_frames

if TYPE_CHECKING:
    from av.packet import Packet


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """What to decode of a file."""

    timeline: Timeline
    choice: Choice
    decoding: Plan
    groups: list[Group]
    """Where several are to be decoded at once; else none."""
    num_decoders: int
    """That are at work at once on those."""
    kept: "list[Packet[VideoStream]] | None"
    """All packets, unless they are to be read again."""
    is_probed: bool
    """Whether the file has to be probed, whenever it is opened again."""

    def packets(self, container: InputContainer, stream: VideoStream) -> "Iterable[Packet[VideoStream]]":
        """All packets, of which a file that was just opened gives those that were not kept."""
        return self.kept if self.kept is not None else demux(container, stream)


@contextmanager
def plan_video(
    file: BinaryIO | Readable,
    request: MediaRequest,
    limits: MediaLimits,
    num_given: Sequence[int],
    options: Mapping[str, str],
) -> Iterator[tuple[InputContainer, VideoStream, VideoPlan]]:
    """The plan, and the file open for `plan.packets` to be decoded with `options`, unless that is done by groups.

    `num_given`: frames of each spec that are not wanted again. The file is probed only where that is needed to choose a
    stream, to know the shape of its pixels or how far the decoder has to look ahead. Raises SurpriseError where the
    packets do not tell what will be displayed, InvalidMedia where there is no picture.
    """
    with ExitStack() as opened:
        for probe in (False, True):
            container, stream = opened.enter_context(open_video(file, limits, options, probe=probe))
            plan = _plan(file, container, stream, request, limits, num_given, probe)
            if plan is not None:
                break
            opened.close()
        else:
            raise SurpriseError
        if plan.kept is None and not plan.groups:  # its packets are read a second time
            opened.close()
            container, stream = opened.enter_context(open_video(file, limits, options, probe=probe))
        yield container, stream, plan


def _plan(
    file: BinaryIO | Readable,
    container: InputContainer,
    stream: VideoStream,
    request: MediaRequest,
    limits: MediaLimits,
    num_given: Sequence[int],
    is_probed: bool,
) -> VideoPlan | None:
    """None where the file has to be probed first. The table of packets, 180,000 in two hours of video, is not kept."""
    table = read_packets(container, stream)
    if table is not None and table.has_lead:
        table = table.without_lead(_first_pts(file, limits))
    if table is None:
        raise SurpriseError
    choice = choose_frames(table.timeline, request, limits, table.key_frames)
    decoding = plan_decoding(table, np.unique(np.concatenate([pick.indices for pick in choice.picks])))
    is_alone = len(container.streams.video) == 1
    has_shape = stream.sample_aspect_ratio is not None or decoding.feed[0]  # else the first frame tells
    looks_ahead = stream.codec_context.has_b_frames or not table.is_reordered
    if not is_probed and not (is_alone and has_shape and looks_ahead):
        return None
    awaited = [Pick(pick.indices[n:], pick.moments[n:]) for pick, n in zip(choice.picks, num_given, strict=True)]
    num_decoders = _num_decoders(stream, request, limits)
    groups = plan_at_once(decoding, table, request.frames, awaited, num_decoders)
    return VideoPlan(table.timeline, choice, decoding, groups, num_decoders, table.kept, is_probed)


def _first_pts(file: BinaryIO | Readable, limits: MediaLimits) -> int | None:
    """Of the first frame that decodes. Raises InvalidMedia where none does."""
    with open_video(file, limits) as (container, stream):
        return next(decode_all(container, stream)).pts


def _num_decoders(stream: VideoStream, request: MediaRequest, limits: MediaLimits) -> int:
    """That may be at work at once: together their pictures have no more pixels than one picture may have."""
    pixels = max(1, stream.codec_context.width * stream.codec_context.height)
    return min(request.cores, limits.max_pixels // pixels)
