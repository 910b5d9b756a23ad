from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.models import torchscript
from app.models.store import load_version
from trainer.__main__ import main
from trainer.data.listing import list_files, write_listing
from trainer.data.scene_labels import EDITS, LABELS, STATIC
from trainer.data.scenes import SceneStyle
from trainer.networks.camera_classifier import EXCLUSIVE, CameraClassifier
from trainer.recipe.camera import CameraRecipe, Network
from trainer.recipe.reading import RECIPES, read_recipe
from trainer.tasks.camera import CameraTask
from trainer.tasks.camera_scenes import Scenes

WIDTH, HEIGHT = 64, 48
NETWORK = Network(num_channels=(4, 8), mixed_channels=4, lag=3, size=8, dropout=0.0)
# Rounding of float32 in another order of sums: the contract's tolerance.
TOLERANCE = 1e-5


def network(**changes: object) -> CameraClassifier:
    torch.manual_seed(0)
    return CameraClassifier(WIDTH, HEIGHT, 12.0, "gru", NETWORK.model_copy(update=changes)).eval()


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    scenes = Scenes([], 2, 12, SceneStyle(width=WIDTH, height=HEIGHT), seed=3)
    return torch.stack([scenes[index][0] for index in range(2)])


@pytest.mark.parametrize("splits", [[1] * 12, [5, 7], [2, 3, 1, 6]])
def test_any_split_equals_one_call(frames: torch.Tensor, splits: list[int]) -> None:
    module, lengths = network(), torch.tensor([12, 7])
    with torch.no_grad():
        (now, so_far), after = module.step(frames, lengths, module.initial_state(2, HEIGHT, WIDTH))
        state, start, parts = module.initial_state(2, HEIGHT, WIDTH), 0, []
        for length in splits:
            part = frames[:, start : start + length]
            (answer, _), state = module.step(part, (lengths - start).clamp(0, length), state)
            parts.append(answer)
            start += length
    split = torch.cat(parts, dim=1)

    for row, length in enumerate(lengths):
        torch.testing.assert_close(split[row, :length], now[row, :length], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(state, after, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(module(frames, lengths), so_far[torch.arange(2), lengths - 1])
    shares = now[0].sigmoid().cumsum(0) / torch.arange(1, 13)[:, None]
    torch.testing.assert_close(so_far[0].sigmoid(), shares, atol=TOLERANCE, rtol=0)


def test_the_share_of_what_always_holds_stays_finite(frames: torch.Tensor) -> None:
    module, lengths = network(), torch.tensor([12, 12])
    with torch.no_grad():
        module.now.project.bias[1] = 60.0  # the first label: a sigmoid of 1 in float32
        (now, so_far), _ = module.step(frames, lengths, module.initial_state(2, HEIGHT, WIDTH))

    assert (now[..., 0] > 40).all()
    torch.testing.assert_close(so_far[:, 0], now[:, 0], atol=1e-4, rtol=0)  # of logits of 60: 24 bits
    assert torch.isfinite(so_far).all()


def test_padding_and_company_change_nothing(frames: torch.Tensor) -> None:
    module = network()
    with torch.no_grad():
        (now, _), after = module.step(frames, torch.tensor([12, 7]), module.initial_state(2, HEIGHT, WIDTH))
        (alone, _), state = module.step(frames[1:, :7], torch.tensor([7]), module.initial_state(1, HEIGHT, WIDTH))

    torch.testing.assert_close(now[1:, :7], alone, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(after[1:], state, atol=TOLERANCE, rtol=0)


def test_length_0_leaves_the_state_bit_by_bit(frames: torch.Tensor) -> None:
    module = network()
    with torch.no_grad():
        _, state = module.step(frames, torch.tensor([5, 0]), module.initial_state(2, HEIGHT, WIDTH))
        _, again = module.step(frames, torch.tensor([0, 0]), state)

    assert torch.equal(state[1], module.initial_state(1, HEIGHT, WIDTH)[0])
    assert torch.equal(again, state)


def test_scripted_saved_and_loaded_equals_eager(frames: torch.Tensor) -> None:
    module, lengths = network(), torch.tensor([12, 7])
    loaded = torchscript.load(torchscript.save(torchscript.script(module)))

    with torch.inference_mode():
        torch.testing.assert_close(loaded(frames, lengths), module(frames, lengths), atol=TOLERANCE, rtol=0)


def test_the_control_remembers_nothing(frames: torch.Tensor) -> None:
    module, lengths = network(memory="none"), torch.tensor([12])
    with torch.no_grad():
        (now, _), _ = module.step(frames[:1], lengths, module.initial_state(1, HEIGHT, WIDTH))
        (backwards, _), _ = module.step(frames[:1].flip(1), lengths, module.initial_state(1, HEIGHT, WIDTH))

    torch.testing.assert_close(now, backwards.flip(1), atol=TOLERANCE, rtol=0)


def test_scores_of_labels_that_exclude_each_other_add_up_to_one_at_most(frames: torch.Tensor) -> None:
    module = network()
    with torch.no_grad():
        scores = module.step(frames, torch.tensor([12, 12]), module.initial_state(2, HEIGHT, WIDTH))[0][0].sigmoid()

    for group in EXCLUSIVE:
        assert (scores[..., list(group)].sum(dim=-1) < 1 + TOLERANCE).all()
    assert scores.shape[2] == len(LABELS) == sum(len(group) for group in EXCLUSIVE)
    assert EXCLUSIVE[-1] == tuple(range(len(LABELS) - len(EDITS), len(LABELS)))
    assert (STATIC,) in EXCLUSIVE


def test_the_answer_comes_late_by_the_delay() -> None:
    recipe = read_recipe(RECIPES / "camera.yaml", ["input.delay_steps=2"], CameraRecipe)
    task = CameraTask(recipe, "gru")
    holds = torch.from_numpy(np.random.default_rng(0).random((1, 20, len(LABELS))) < 0.5)
    logits = (holds.float() - 0.5) * 40
    scored = torch.ones_like(holds)

    late = torch.cat((torch.zeros(1, 2, len(LABELS)), logits[:, :-2]), dim=1)
    assert task.label_loss(late, holds, scored) < 1e-6
    assert task.label_loss(logits, holds, scored) > 5


def test_it_is_trained_and_published_by_the_command(tmp_path: Path, motion: Path) -> None:
    settings = {
        "input.width": WIDTH,
        "input.height": HEIGHT,
        "stills.width": 80,
        "stills.height": 60,
        "network.num_channels": "[4, 8]",
        "network.mixed_channels": 4,
        "network.size": 8,
        "sampling.clip_length": 12,
        "sampling.scenes_per_epoch": 4,
        "sampling.validation_scenes": 4,
        "budget.num_epochs": 1,
        "budget.batch_size": 12,  # more than there are: one batch
    }
    main(
        [
            *("train", "classify", "--data", str(motion), "--name", "camera-test", "--val-fraction", "0.3"),
            *("--recipe", str(RECIPES / "camera.yaml"), "--cache", str(tmp_path / "cache")),
            *("--output", str(tmp_path / "run"), "--store", str(tmp_path / "store")),
            *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")),
        ]
    )

    manifest = load_version(tmp_path / "store" / "camera-test" / "1").manifest
    assert manifest.output.labels == LABELS  # type: ignore[union-attr]
    assert manifest.output.scores == "sigmoid"  # type: ignore[union-attr]
    assert manifest.output.delay_steps == 3  # type: ignore[union-attr]
    assert set(manifest.output.shortest_seconds) == set(EDITS)  # type: ignore[union-attr]
    assert manifest.input.sampling == "rate"
    assert {"val", "textures"} <= set(manifest.metrics)


def test_it_is_not_trained_on_textures_alone(tmp_path: Path, motion: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = list_files(motion)[:2]
    (damaged := tmp_path / "damaged.mp4").write_bytes(b"no video at all")
    write_listing(
        [replace(videos[0], path=damaged, split="train"), replace(videos[1], split="val")], tmp_path / "data.csv"
    )

    with pytest.raises(SystemExit, match="2"):
        main(
            [
                *("train", "classify", "--data", str(tmp_path / "data.csv"), "--name", "camera-test", "--no-publish"),
                *("--recipe", str(RECIPES / "camera.yaml"), "--cache", str(tmp_path / "cache")),
                *("--output", str(tmp_path / "run"), "--set", "sampling.scenes_per_epoch=1"),
                *("--set", "sampling.validation_scenes=1", "--set", "budget.num_epochs=1"),
            ]
        )

    assert "no videos to make scenes of are left in train" in capsys.readouterr().err
