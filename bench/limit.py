"""The limit for any service: one bare process that decodes only what it must and runs the frozen fp32 model.

python -m bench.limit MODEL_FOLDER

It reads the names of video files, one per line, and answers each with a line of scores. Which packets to decode is
planned beforehand, by the service's own rules and without counting the time: it knows a file's frames when it opens it.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from app.media.decoding import decode_planned
from app.media.packets import Plan, demux, plan_decoding, read_packets
from app.media.probe import best_video, open_media
from app.media.request import FrameSpec, MediaLimits, MediaRequest
from app.media.scaling import FrameScaler
from app.media.timeline import Pick, Timeline, part_of, pick_frames
from app.models import torchscript
from app.models.manifest import read_manifest
from app.pipelines.reading import frame_spec


@dataclass(frozen=True)
class Known:
    """What is known of a file beforehand."""

    plan: Plan
    pick: Pick
    timeline: Timeline


def look_at(path: Path, spec: FrameSpec) -> Known:
    """What to decode of the file, and which of its frames to take."""
    limits, request = MediaLimits(), MediaRequest(frames=(spec,))
    with path.open("rb") as file, open_media(file, limits) as container:
        stream = best_video(container, limits)
        assert stream is not None
        table = read_packets(container, stream)
        assert table is not None
        pick = pick_frames(table.timeline, part_of(table.timeline, request), spec)
        return Known(plan_decoding(table, np.unique(pick.indices)), pick, table.timeline)


def read_clip(path: Path, spec: FrameSpec, known: Known) -> torch.Tensor:
    """(T, H, W, 3) uint8, in one pass over the file."""
    frames = np.empty((len(known.pick.indices), spec.height, spec.width, 3), np.uint8)
    with av.open(str(path), options={"skip_frame": "all"}) as container:  # opening decodes nothing
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        scaler = None
        for index, frame in decode_planned(demux(container, stream), stream, known.plan, known.timeline):
            for place in np.flatnonzero(known.pick.indices == index):
                scaler = scaler or FrameScaler(spec, frame, None)
                scaler.scale(frame, frames[place])
    return torch.from_numpy(frames)


def load(folder: Path) -> tuple[torch.jit.ScriptModule, FrameSpec]:
    """The frozen model, and the frames it wants."""
    wanted = read_manifest(folder / "manifest.json").input
    spec = frame_spec(wanted, clip_length=wanted.clip_length or 16)
    return torchscript.load((folder / "model.pt").read_bytes()), spec


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    module, spec = load(Path(sys.argv[1]))
    known: dict[str, Known] = {}
    for line in sys.stdin:
        name = line.rstrip("\n")
        if name not in known:
            known[name] = look_at(Path(name), spec)
        clip = read_clip(Path(name), spec, known[name])
        scores = module(clip.unsqueeze(0), torch.tensor([len(clip)])).softmax(1)[0]
        print(json.dumps(scores.tolist()), flush=True)


if __name__ == "__main__":
    main()
