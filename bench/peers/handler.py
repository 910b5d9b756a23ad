"""What each of the servers does with a video, as carefully as one can write it in an afternoon.

Each worker has one thread, scales only the frames that are wanted, and runs a frozen model.
"""

import io
import json
import os
from pathlib import Path

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation

FOLDER = Path(os.environ["MODEL_FOLDER"])
NUM_WORKERS = len(os.sched_getaffinity(0))
_FLAGS = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class Handler:
    """The model, and what makes its input."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.wanted = json.loads((FOLDER / "manifest.json").read_text())["input"]
        module = torch.jit.load(str(FOLDER / "model.pt")).eval()  # noqa: TID251 - what is measured is how others do it
        self.model = torch.jit.freeze(module)  # noqa: TID251

    @torch.inference_mode()
    def scores(self, video: bytes) -> list[float]:
        """By label, of an encoded video."""
        clip = self._frames(video)
        found: list[float] = self.model(clip.unsqueeze(0), torch.tensor([len(clip)])).softmax(1)[0].tolist()
        return found

    def _frames(self, video: bytes) -> torch.Tensor:
        """(T, H, W, 3) uint8, spread over the video."""
        width, height, length = self.wanted["width"], self.wanted["height"], self.wanted["clip_length"]
        picked = []
        with av.open(io.BytesIO(video)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            count = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
            container.seek(0)
            wanted = np.rint(np.linspace(0, count - 1, length)).astype(int).tolist()
            for index, frame in enumerate(container.decode(stream)):
                for _ in range(wanted.count(index)):
                    small = frame.reformat(width, height, "rgb24", interpolation=_FLAGS, threads=1)
                    picked.append(small.to_ndarray())
                if index == wanted[-1]:
                    break
        return torch.from_numpy(np.stack(picked))
