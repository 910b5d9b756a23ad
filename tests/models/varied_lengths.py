"""What the scheduler costs a process of its own that runs clips of every length.

Prints by how many MB it grew from the 100th to the 500th group of clips, and how many threads other than Python's
it started.
"""

import random
import threading
from pathlib import Path

import torch
from torch import Tensor, nn

from app.models import torchscript
from app.models.batching import Scheduler
from app.models.store import ServedModel
from app.models.work import Work
from tests.tiny_models import make_manifest

PAGE_BYTES = 4096


class Wide(nn.Module):
    """An LSTM wide enough for its primitives to weigh something."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 64)
        self.recurrent = nn.LSTM(64, 64, num_layers=2, batch_first=True)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        outputs, _ = self.recurrent(self.encoder(frames.float().mean(dim=(2, 3))))  # (B, T, D)
        return outputs.mean(dim=1)


def resident_megabytes() -> float:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * PAGE_BYTES / 1e6


def other_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir())) - threading.active_count()


def main() -> None:
    torch.manual_seed(0)
    module = torchscript.load(torchscript.save(torchscript.script(Wide())))
    model = ServedModel(make_manifest(b""), "", module, "", torch.device("cpu"))
    rng = random.Random(0)
    scheduler = Scheduler(num_threads=1)
    threads_before = other_threads()
    scheduler.start()
    before = 0.0
    for group in range(500):
        if group == 100:
            before = resident_megabytes()
        clip = torch.zeros(rng.randint(1, 256), 2, 2, 3, dtype=torch.uint8)
        for future in [scheduler.submit(Work(model, clip)) for _ in range(rng.randint(1, 2))]:
            future.result()
    print(f"{resident_megabytes() - before:.1f} {other_threads() - threads_before}")  # noqa: T201
    scheduler.close()


if __name__ == "__main__":
    main()
