"""Files whose clock was set anew on the way: recorded at several times, and joined as they were.

FFmpeg knows the containers in which that is to be expected (AVFMT_TS_DISCONT): MPEG-TS and -PS, and Ogg. There what
comes much too early or too late follows what came before it, as `-dts_delta_threshold` of https://ffmpeg.org/ffmpeg.html
has it. Elsewhere a gap is a gap: a picture that stands still, or silence.
"""

from fractions import Fraction

from av.container import InputContainer

_TS_DISCONT = 0x200  # AVFMT_TS_DISCONT of libavformat/avformat.h

JITTER_SECONDS = 0.1
"""Time stamps that are off by less mean nothing."""
MAX_GAP_SECONDS = 10.0


def may_be_set_anew(container: InputContainer) -> bool:
    """Whether a gap of more than MAX_GAP_SECONDS means another clock, not a pause."""
    return bool(container.format.flags & _TS_DISCONT)


class FileClock:
    """Turns the time stamps of a stream's frames into times that never fall, in ticks of its time base."""

    def __init__(self, container: InputContainer, time_base: Fraction) -> None:
        self._is_joined = may_be_set_anew(container)
        self._max_gap = round(MAX_GAP_SECONDS / time_base)
        self._max_fall = round(JITTER_SECONDS / time_base) if self._is_joined else self._max_gap
        self._ahead = 0

    def is_set_anew(self, last: int, ticks: int) -> bool:
        """Whether the clock was set anew between the time stamp `last` and `ticks`, the one after it."""
        return ticks < last - self._max_fall or (self._is_joined and ticks > last + self._max_gap)

    def time_of(self, pts: int, last: int, due: int) -> int:
        """When a frame is displayed that follows one displayed at `last`: never earlier; at `due` where the clock was
        set anew in between."""
        if self.is_set_anew(last, pts - self._ahead):
            self._ahead = pts - due
        return max(last, pts - self._ahead)
