"""What is known of a file once its first frame is."""

from contextlib import suppress
from typing import BinaryIO

import av

from app.errors import ServiceError
from app.media.decoding import decode_all
from app.media.probe import Readable, best_video, describe, open_media
from app.media.request import MediaInfo, MediaLimits
from app.media.scaling import displayed_size
from app.media.socket_file import SocketFile


def read_first_frame(file: BinaryIO | Readable | SocketFile, limits: MediaLimits) -> tuple[MediaInfo, float]:
    """What a file says of itself, and when its first frame is displayed or, without a picture, its first sample heard,
    in the file's own seconds.

    Only a frame tells how it is turned, and that it can be displayed: a recording that was cut begins with some that
    cannot. A picture of which none can is not an error here.
    """
    with open_media(file, limits) as container:
        with suppress(ServiceError):
            picture = best_video(container, limits)
            if picture is not None:
                frame = next(decode_all(container, picture))
                info = describe(container, picture, displayed_size(frame, picture.sample_aspect_ratio))
                assert picture.time_base is not None
                return info, float((frame.pts or 0) * picture.time_base)
        return describe(container, None, None), float((container.start_time or 0) / av.time_base)
