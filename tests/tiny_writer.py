"""A describer of video small enough for every test, and right about colours and when they change."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from app.models.manifest import SPECIAL_WORDS
from tests.tiny_models import COLOURS, write_other

RATE = 4.0
LONGEST = 16  # frames, 4 s
MAX_LENGTH = 24
WORDS = (
    *SPECIAL_WORDS,
    *(f"{tenth / 10:.1f}" for tenth in range(41)),
    *COLOURS,
    "a",
    "film",
    "from",
    "s",
    "on",
    ";",
    ".",
)


class TinyWriter(nn.Module):
    """Of a video that turns from red to green: A red film; green from 2.0 s on. Or, less likely: A red film.

    The likelier comment has the probability `sure`, the others share the rest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(0.9))
        self.first_colour = WORDS.index("red")
        self.a, self.film, self.begins, self.s, self.on = (
            WORDS.index(word) for word in ("a", "film", "from", "s", "on")
        )
        self.semicolon, self.stop = WORDS.index(";"), WORDS.index(".")

    def forward(
        self, frames: Tensor, lengths: Tensor, beam: int, max_length: int, length_penalty: float
    ) -> tuple[Tensor, Tensor]:
        B, T = frames.shape[0], frames.shape[1]
        colours = frames.float().mean(dim=(2, 3)).argmax(dim=2)  # (B, T)
        tokens = torch.zeros(B, beam, max_length, dtype=torch.int64)
        scores = torch.log((1.0 - self.sure) / beam).repeat(B, beam)
        for row in range(B):
            said = [self.a, self.first_colour + int(colours[row, 0]), self.film]
            short = [self.a, self.first_colour + int(colours[row, 0]), self.film, self.stop, 2]
            for t in range(1, T):
                if t < int(lengths[row]) and int(colours[row, t]) != int(colours[row, t - 1]):
                    said += [self.semicolon, self.first_colour + int(colours[row, t]), self.begins]
                    said += [4 + int(t * 2.5), self.s, self.on]
            said += [self.stop, 2]  # <eos>
            scores[row, 0] = torch.log(self.sure)
            for place in range(beam):
                words = said if place == 0 else short
                for index in range(min(len(words), max_length)):
                    tokens[row, place, index] = words[index]
        return tokens, scores / (1.0 + length_penalty)


def write_writer(store: Path, name: str = "tiny-writer", *, sampling: str = "rate") -> Path:
    """A complete, valid version of a TinyWriter; its folder."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 6, 24, 32, 3), dtype=np.uint8)
    return write_other(
        store,
        name,
        TinyWriter(),
        frames,
        (6, 4),
        0,
        task="caption",
        causal=False,
        summary="Tells colours.",
        input={
            "media": "video",
            "width": 32,
            "height": 24,
            "fit": "stretch",
            "sampling": sampling,
            "clip_length": LONGEST,
            "rate": RATE,
        },
        output={"vocabulary": WORDS, "max_length": MAX_LENGTH, "numbers_are_seconds": sampling == "rate"},
    )
