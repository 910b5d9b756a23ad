"""The time a frame classifier's forward pass spends on pictures and on recurrence, and other ways to run it."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from app.models import bfloat16, torchscript
from app.models.manifest import read_manifest
from app.models.precision import has_bfloat16
from bench.load import median

CPU = torch.device("cpu")
_RUNS = 15


@torch.inference_mode()
def time_parts(model: Path) -> dict[str, float]:
    """Milliseconds on one thread by part: medians, with the parts measured in turns."""
    torch.set_num_threads(1)
    wanted = read_manifest(model / "manifest.json").input
    data = (model / "model.pt").read_bytes()
    frozen, plain = torchscript.load(data), torchscript.load_as_saved(data).eval()
    quick = torchscript.load(data)
    torchscript.optimise(quick)
    size = (wanted.clip_length or 16, wanted.height, wanted.width, 3)
    clip = torch.randint(0, 256, (1, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([size[0]])

    exact: Tensor = frozen(clip, lengths)
    state = plain.initial_state(1, *size[1:3])
    embedded = plain.embed(plain.pictures(clip), state)
    parts: dict[str, Callable[[], Tensor]] = {
        "forward, frozen": lambda: frozen(clip, lengths),
        "forward, not frozen": lambda: plain(clip, lengths),
        "of it the front end, to one vector a frame": lambda: plain.embed(plain.pictures(clip), state),
        "of it what is recurrent": lambda: plain.unroll(embedded, lengths, state)[0],
        "forward, as it is served in float32": lambda: quick(clip, lengths),
    }
    if has_bfloat16(CPU):
        fast = torchscript.load(data)
        bfloat16.lower(fast, CPU)
        print(f"bfloat16: logits off by {(fast(clip, lengths) - exact).abs().max():.2g}")
        parts["forward, as it is served in bfloat16"] = lambda: fast(clip, lengths)
    return _time(parts)


def _time(parts: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for run in range(_RUNS + 3):
        for name, part in parts.items():
            began = time.thread_time()
            part()
            if run >= 3:
                seconds[name].append(time.thread_time() - began)
    return {name: 1000 * median(values) for name, values in seconds.items()}
