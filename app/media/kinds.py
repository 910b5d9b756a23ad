"""The only kinds of file and codec that are ever opened: FFmpeg carries some 550 decoders, and each is attack surface
(CVE-2026-8461 was in one that no one here needs).
"""

DEMUXERS = (
    "mov",  # MP4, MOV, 3GP, M4A
    "matroska",  # and WebM
    "avi",
    "mpegts",
    "mpeg",  # MPEG-PS
    "mxf",
    "flv",
    "asf",
    "ogg",
    "gif",
    "h264",
    "hevc",
    "mpegvideo",  # raw MPEG-1 and MPEG-2
    "wav",
    "mp3",
    "flac",
    "aac",
)

VIDEO_DECODERS = frozenset(
    {
        "h264",
        "hevc",
        "vp8",
        "vp9",
        "libdav1d",
        "mpeg1video",
        "mpeg2video",
        "mpeg4",
        "h263",
        "h263p",
        "msmpeg4v1",
        "msmpeg4v2",
        "msmpeg4",
        "wmv1",
        "wmv2",
        "wmv3",
        "vc1",  # the advanced profile of WMV 9
        "flv",
        "mjpeg",
        "prores",
        "theora",
        "gif",
    }
)

AUDIO_DECODERS = frozenset(
    {
        "aac",
        "aac_latm",
        "mp2",  # what MPEG-PS and -TS files of all ages carry; the code is that of mp3
        "mp3",
        "mp3float",
        "opus",
        "vorbis",
        "flac",
        "alac",
        "ac3",
        "amrnb",
        "amrwb",
        "wmav1",
        "wmav2",
        "wmapro",
        "wmalossless",
        "wmavoice",
        "pcm_alaw",
        "pcm_mulaw",
        "pcm_bluray",
        "pcm_dvd",
        "pcm_f32be",
        "pcm_f32le",
        "pcm_f64be",
        "pcm_f64le",
        "pcm_s16be",
        "pcm_s16le",
        "pcm_s24be",
        "pcm_s24le",
        "pcm_s32be",
        "pcm_s32le",
        "pcm_s8",
        "pcm_u8",
    }
)

_SIGNATURES = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (0, b"\x1aE\xdf\xa3"),  # EBML: Matroska, WebM
    (8, b"AVI "),
    (8, b"WAVE"),
    (0, b"\x00\x00\x01\xba"),  # MPEG-PS
    (0, b"\x06\x0e\x2b\x34"),  # MXF
    (0, b"FLV"),
    (0, b"\x30\x26\xb2\x75"),  # ASF
    (0, b"OggS"),
    (0, b"GIF8"),
    (0, b"fLaC"),
    (0, b"ID3"),
)


def is_known_kind(head: bytes) -> bool:
    """Whether a file that starts with `head` (12 bytes or more) says that it is of a kind we take.

    Tells a damaged file (422) from one of another kind (415) where FFmpeg could open neither.
    """
    return any(head[offset : offset + len(mark)] == mark for offset, mark in _SIGNATURES)


def index_comes_last(head: bytes) -> bool:
    """Whether a file that starts with `head` is an MP4 or MOV whose pictures come before the index of them.

    Such a file is a row of boxes (ISO/IEC 14496-12). Each begins with its size in 32 bits and its kind; a size of 1
    means that the size follows the kind in 64 bits.
    """
    at = 0
    while at + 16 <= len(head) and head[4:8] in (b"ftyp", b"wide", b"free", b"skip", b"mdat"):
        size, kind = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8]
        if kind in (b"mdat", b"moov", b"moof"):
            return kind == b"mdat"
        size = int.from_bytes(head[at + 8 : at + 16]) if size == 1 else size
        if size < 8:  # 0: to the end of the file; less than a box has is none
            return False
        at += size
    return False
