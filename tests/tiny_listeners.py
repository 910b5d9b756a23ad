"""Models of sound small enough for every test: one that describes it, and two that tell loud from quiet."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.tiny_models import write_other

SAMPLE_RATE = 8000
STEP_SAMPLES = 400  # 50 ms
MAX_SAMPLES = 8000  # 1 s
NUM_MELS = 4
LOUDNESS = ("quiet", "loud")


def loudness(waveform: Tensor, size: int) -> Tensor:
    """(B, N) -> (B, N // size): root mean square of each `size` samples."""
    return waveform.reshape(waveform.shape[0], -1, size).square().mean(dim=2).sqrt()


def valid_steps(lengths: Tensor, T: int, size: int) -> Tensor:
    """(B, T, 1): 1 for steps of `size` samples that begin within `lengths`."""
    return (torch.arange(T) * size < lengths.unsqueeze(1)).unsqueeze(2).float()


class TinyDescriber(nn.Module):
    """The vector of a step is (loudness, decaying mean of it), that of a clip the mean of its steps, and their number.

    The state is (decaying mean, sums of the step vectors, number of steps).
    """

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps, state = self.step(waveform, lengths, self.initial_state(waveform.shape[0], 0, 0))
        return self.clip(state), steps, (lengths + 399) // 400

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return torch.zeros(B, 4)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        loud = loudness(chunk, 400)
        valid = valid_steps(lengths, loud.shape[1], 400)
        steps: list[Tensor] = []
        for time in range(loud.shape[1]):
            mean = self.decay * state[:, :1] + (1 - self.decay) * loud[:, time : time + 1]
            vector = torch.cat([loud[:, time : time + 1], mean], dim=1)
            stepped = torch.cat([mean, state[:, 1:3] + vector, state[:, 3:] + 1], dim=1)
            state = torch.where(valid[:, time] > 0, stepped, state)
            steps.append(vector)
        return torch.stack(steps, dim=1), state

    @torch.jit.export
    def clip(self, state: Tensor) -> Tensor:
        return torch.cat([state[:, 1:3] / state[:, 3:].clamp(min=1.0), state[:, 3:]], dim=1)

    @torch.jit.export
    def log_mel(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        bands = loudness(waveform, 100).reshape(waveform.shape[0], -1, 4)  # no mels, but four numbers in order
        return torch.log(bands + 1e-3), (lengths + 399) // 400


class TinyListener(nn.Module):
    """Tells loud from quiet, step by step; the state is (sum of the logits so far, number of steps so far)."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(1, 2)
        with torch.no_grad():
            self.output.weight.copy_(torch.tensor([[-40.0], [40.0]]))
            self.output.bias.copy_(torch.tensor([8.0, -8.0]))  # they are even at a loudness of 0.2

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        _, state = self.step(waveform, lengths, self.initial_state(waveform.shape[0], 0, 0))
        return state[:, :2] / state[:, 2:].clamp(min=1.0)

    @torch.jit.export
    def initial_state(self, B: int, H: int, W: int) -> Tensor:
        return torch.zeros(B, 3)

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        now = self.output(loudness(chunk, 400).unsqueeze(2))  # (B, T, 2)
        valid = valid_steps(lengths, now.shape[1], 400)
        sums = state.unsqueeze(1) + torch.cat([now * valid, valid], dim=2).cumsum(dim=1)
        return (now, sums[:, :, :2] / sums[:, :, 2:].clamp(min=1.0)), sums[:, -1]


class TinyHearer(nn.Module):
    """Tells loud from quiet, of a whole sound."""

    def __init__(self) -> None:
        super().__init__()
        self.output = TinyListener().output

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        valid = (torch.arange(waveform.shape[1]) < lengths.unsqueeze(1)).float()
        power = (waveform.square() * valid).sum(dim=1) / lengths.clamp(min=1)
        return self.output(power.sqrt().unsqueeze(1))


STEPS = {"media": "audio", "sample_rate": SAMPLE_RATE, "step_samples": STEP_SAMPLES}
PARTS = {"media": "audio", "sample_rate": SAMPLE_RATE, "max_samples": MAX_SAMPLES}
GOLDEN_LENGTHS = (4 * STEP_SAMPLES, 2 * STEP_SAMPLES)


def golden_waveform() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4 * STEP_SAMPLES)).astype(np.float32)


def write_describer(store: Path, module: nn.Module | None = None) -> Path:
    """A complete version of `module` or else of a TinyDescriber, as `tiny-describer`."""
    return write_other(
        store,
        "tiny-describer",
        module or TinyDescriber(),
        golden_waveform(),
        GOLDEN_LENGTHS,
        4,
        task="features",
        summary="How loud it is.",
        input=STEPS,
        output={
            "dimension": 3,
            "step_dimension": 2,
            "hop_seconds": STEP_SAMPLES / SAMPLE_RATE,
            "num_mels": NUM_MELS,
            "log_mel_hop_seconds": STEP_SAMPLES / SAMPLE_RATE,
        },
    )


def write_listeners(store: Path) -> None:
    """Complete, valid versions: `tiny-describer` (features), `tiny-listener` and `tiny-hearer` (classify)."""
    write_describer(store)
    common = {"summary": "Loud or not.", "output": {"labels": LOUDNESS}}
    waveform = golden_waveform()
    write_other(store, "tiny-listener", TinyListener(), waveform, GOLDEN_LENGTHS, 3, input=STEPS, **common)
    licence = [{"name": "made up", "license": "CC-BY-NC-SA-4.0", "source": "made up"}]
    unstepped = {"causal": False, "input": PARTS, "training_data": licence}
    write_other(store, "tiny-hearer", TinyHearer(), waveform, GOLDEN_LENGTHS, 0, **unstepped, **common)
