"""What a packet is to the decoder, read from its own bytes: a container's key frame flag may lie.

A packet is CLEAN where decoding can start and give the same pixels as decoding from the beginning of the file, apart
from frames that are displayed before it. It is DISPOSABLE where no other frame is predicted from it.
"""

import re
from collections.abc import Callable

from av.packet import Packet
from av.video.stream import VideoStream

CLEAN = 1
DISPOSABLE = 2
HEADERS = 4
"""Carries parameters that later packets may need, or ends a sequence, after which they are decoded otherwise."""
HIDDEN = 8
"""Decodes to nothing that is displayed."""
ODD = 16
"""Holds more than one frame, or what cannot be told: the whole file is then decoded in full."""
LAYER_SHIFT = 5
"""Above these bits: the temporal layer, 0 to 6. DISPOSABLE then means within this layer."""

_X264_BUILD = re.compile(rb"x264 - core (\d+)")
_FIRST_BUILD_AS_SPECIFIED = 151
_HEAD_BYTES = 4096
_MPEG4_ENCODER = re.compile(rb"\x00\x00\x01\xb2(XviD|DivX|Lavc|FF?mpeg)", re.IGNORECASE)
"""User data by which FFmpeg decodes all that follows in another way. With parameters it also stands in the file's
header; alone, only a decoder that has read this packet knows of it."""

Classify = Callable[[bytes], int]


def classifier(stream: VideoStream) -> Classify:
    """The function that tells flags from a packet's bytes, for the stream's codec. It never raises for bad bytes."""
    name = stream.codec_context.name
    if name in ("h264", "hevc"):
        classify = _nal_classifier(name, stream.codec_context.extradata or b"")
        is_lossless = stream.codec_context.profile == "High 4:4:4 Predictive"
        return (lambda data: ODD if _is_of_old_x264(data) else classify(data)) if is_lossless else classify
    return {
        "vp8": _vp8,
        "vp9": _vp9,
        "libdav1d": _av1,
        "mpeg1video": _mpeg2,
        "mpeg2video": _mpeg2,
        "mpeg4": _mpeg4,
        "theora": _theora,
        "mjpeg": _intra_only,
        "prores": _intra_only,
    }.get(name, _unknown)


def classify_packet(packet: "Packet[VideoStream]", classify: Classify) -> int:
    """The flags of one packet."""
    return classify(bytes(packet)) if packet.size else ODD


def _unknown(data: bytes) -> int:
    return 0


def _intra_only(data: bytes) -> int:
    return CLEAN | DISPOSABLE


def _nal_classifier(name: str, extradata: bytes) -> Classify:
    """For H.264 and H.265, by the NAL unit headers (ITU-T H.264 7.3.1, H.265 7.3.1.2)."""
    prefix = 0  # bytes of length before each NAL unit; 0: start codes between them
    if name == "h264" and len(extradata) > 6 and extradata[0] == 1:
        prefix = (extradata[4] & 3) + 1
    elif name == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        prefix = (extradata[21] & 3) + 1
    unit_flags = _h264_unit if name == "h264" else _hevc_unit

    def classify(data: bytes) -> int:
        starts = _prefixed_units(data, prefix) if prefix else _start_code_units(data)
        headers, slices = 0, -1  # what all slices have in common; -1: there are none
        for start in starts:
            flags = unit_flags(data, start)
            if flags == HEADERS:
                headers = HEADERS
            elif flags is not None:
                slices &= flags
        return ODD if slices < 0 else slices | headers

    return classify


def _is_of_old_x264(data: bytes) -> bool:
    """Whether the packet names a build of x264 whose lossless blocks have to be decoded in another way.

    FFmpeg does so if it has read that packet, the first of the file alone (`x264_build` in libavcodec/h264_mb.c).
    """
    build = _X264_BUILD.search(data, 0, _HEAD_BYTES)
    return build is not None and int(build[1]) < _FIRST_BUILD_AS_SPECIFIED


def _prefixed_units(data: bytes, prefix: int) -> list[int]:
    starts, at = [], 0
    while at + prefix < len(data):
        starts.append(at + prefix)
        at += prefix + int.from_bytes(data[at : at + prefix])
    return starts


def _start_code_units(data: bytes) -> list[int]:
    starts, at = [], data.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(data):
        starts.append(at + 3)
        at = data.find(b"\0\0\1", at + 3)
    return starts


def _h264_unit(data: bytes, start: int) -> int | None:
    kind = data[start] & 31
    if kind in (7, 8, 13, 15):  # sequence and picture parameter sets
        return HEADERS
    if kind == 5:  # IDR: nothing after it refers to anything before it
        return CLEAN
    if 1 <= kind <= 4:
        return 0 if data[start] & 0x60 else DISPOSABLE
    return None


def _hevc_unit(data: bytes, start: int) -> int | None:
    kind = (data[start] >> 1) & 63
    if kind in (32, 33, 34, 36):  # parameter sets; the end of a sequence, after which leading frames are not displayed
        return HEADERS
    if kind > 31 or start + 2 >= len(data):
        return None
    if data[start] & 1 or data[start + 1] >> 3:  # a layer above the base: the second view
        return None
    if 16 <= kind <= 21:
        return 0 if data[start + 2] & 0x40 else CLEAN  # no_output_of_prior_pics_flag: frames before it are discarded
    layer = max(0, (data[start + 1] & 7) - 1) << LAYER_SHIFT
    return layer | DISPOSABLE if kind <= 14 and kind % 2 == 0 else layer


def _vp8(data: bytes) -> int:
    """RFC 6386 9.1."""
    hidden = 0 if data[0] & 16 else HIDDEN
    return hidden if data[0] & 1 else hidden | CLEAN


def _vp9(data: bytes) -> int:
    """VP9 bitstream specification 6.2 and Annex B (superframes)."""
    bits = data[0]
    if bits >> 6 != 2:
        return ODD
    shift = 2 if bits & 0x30 == 0x30 else 3  # profile 3 has one more bit
    if bits >> shift & 1:  # shows a frame that is there already
        return 0
    if shift < 3 and len(data) < 2:
        return ODD
    key = not bits >> (shift - 1) & 1
    shown = bits >> (shift - 2) & 1
    superframe = data[-1] & 0xE0 == 0xC0
    hidden = 0 if shown or superframe else HIDDEN
    return hidden | CLEAN if key else hidden


def _av1(data: bytes) -> int:
    """AV1 bitstream specification 5.3, 5.9.2: a shown key frame after a sequence header resets everything."""
    at, sequence = 0, False
    while at < len(data):
        kind, extension, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + extension
        size, shift = 0, 0
        while sized and at < len(data):
            size |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 128:
                break
        if kind in (3, 6) and at < len(data):  # not show_existing_frame, KEY_FRAME, show_frame
            return CLEAN if sequence and data[at] >> 4 == 1 else 0
        sequence = sequence or kind == 1
        at += size if sized else len(data)
    return ODD


def _mpeg2(data: bytes) -> int:
    """ISO/IEC 13818-2 6.2.3: the picture coding type is 3 bits after 10 of temporal reference."""
    kinds = [data[start + 2] >> 3 & 7 for start in _start_code_units(data) if not data[start] and start + 2 < len(data)]
    if not kinds:
        return ODD
    headers = HEADERS if b"\0\0\1\xb3" in data else 0
    if kinds[0] == 1 and headers:
        return headers | CLEAN
    return headers | (DISPOSABLE if all(kind == 3 for kind in kinds) else 0)


def _mpeg4(data: bytes) -> int:
    """ISO/IEC 14496-2 6.2.5: vop_coding_type is the first 2 bits. Several in one packet: a packed B-frame."""
    starts = _start_code_units(data)
    kinds = [data[start + 1] >> 6 for start in starts if data[start] == 0xB6 and start + 1 < len(data)]
    headers = HEADERS if any(0x20 <= data[start] <= 0x2F for start in starts) else 0
    if len(kinds) != 1 or (not headers and _MPEG4_ENCODER.search(data)):
        return ODD
    return headers | {0: CLEAN, 2: DISPOSABLE}.get(kinds[0], 0)


def _theora(data: bytes) -> int:
    """Theora specification 7.1: data packet, intra frame."""
    return CLEAN if data[0] & 0xC0 == 0 else 0
