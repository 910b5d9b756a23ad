from pathlib import Path

import numpy as np
import pytest
import torch

from app.models.manifest import CaptionOutput
from app.models.store import list_versions, load_version
from bench.comments import PublishedReader, describe
from trainer.data.described_scenes import DESCRIBED_STYLE, draw_described
from trainer.data.filmed_scenes import film_scenes
from trainer.data.words import Tokens
from trainer.plans.describe import BEAM

STORE = Path("model_store")
SEED, COUNT = 0, 1


def test_what_is_measured_is_what_is_served(tmp_path: Path) -> None:
    folder = STORE / "describe" / list_versions(STORE, "describe")[-1]
    measured = describe(folder, [], COUNT, SEED, tmp_path)

    model, reader = load_version(folder), PublishedReader(folder / "model.pt")
    output = model.manifest.output
    assert isinstance(output, CaptionOutput)
    filmed = film_scenes([], COUNT, DESCRIBED_STYLE, SEED, reader, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1  # it was measured as this reader reads
    assert len(measured) == len(filmed) == COUNT
    for index, ((said, _), scene) in enumerate(zip(measured, filmed, strict=True)):
        frames = draw_described([], DESCRIBED_STYLE, np.random.default_rng((SEED, index)))[0].frames
        lengths = torch.tensor([len(frames)])
        steps = torch.from_numpy(scene.steps)[None]
        with torch.inference_mode():
            served, scores = model.module(torch.from_numpy(frames)[None], lengths, BEAM, output.max_length, 0.0)
            _, read_scores = model.module.search(steps, lengths, BEAM, output.max_length, 0.0)
        assert said == tuple(Tokens(output.vocabulary).decode(served[0, 0].tolist()))
        # Rounding alone is some 1e-6; another version of the camera moves a score by 0.1 and more.
        assert read_scores.numpy() == pytest.approx(scores.numpy(), abs=1e-4)
