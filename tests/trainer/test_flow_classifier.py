"""A classifier of how things move: what it measures, what it keeps, and that it learns from few videos."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from app.errors import ModelRejected
from app.models import torchscript
from app.models.manifest import ClassifyOutput
from app.models.store import load_version
from trainer.__main__ import main
from trainer.data.prepare import DataOptions
from trainer.evaluate import evaluate
from trainer.networks.flow_classifier import FlowClassifier
from trainer.networks.motion_boundaries import AffineMotion, MotionBoundaries, SlopeFlow, by_direction
from trainer.networks.recurrent import Cell
from trainer.recipe.flow import FlowRecipe, Network
from trainer.recipe.reading import RECIPES, read_recipe
from trainer.tasks.flow import MeasuredVideos, collate, measure

HEIGHT, WIDTH, NUM_STEPS = 36, 48, 7
EXACT = 1e-5  # the contract's, in float32
BOUNDARIES = slice(29, 31)
"""Of a measured step: the logarithms of how much slope the motion has, to the right and downwards."""


def make_texture(height: int, width: int, seed: int = 0) -> Tensor:
    """(1,1,H,W) in [0,1], smooth to some three pixels."""
    noise = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(F.avg_pool2d(noise, 3, 1, 1, count_include_pad=False), 3, 1, 1, count_include_pad=False)
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def make_frames(batch_size: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """(B,T,H,W,3) uint8: a texture that drifts, and in it one that drifts otherwise."""
    rows = []
    for row in range(batch_size):
        world, thing = make_texture(height, width + 20, row), make_texture(12, 12, row + 9)
        frames = []
        for t in range(NUM_STEPS):
            frame = world[..., t : t + width].clone()
            frame[..., 4 + t : 16 + t, 20 - t : 32 - t] = thing
            frames.append((frame * 255).round().to(torch.uint8)[0].permute(1, 2, 0).expand(-1, -1, 3))
        rows.append(torch.stack(frames))
    return torch.stack(rows)


@pytest.fixture(params=[("gru", "cell"), ("lstm", "cell"), ("gru", "none")], ids=str)
def classifier(request: pytest.FixtureRequest) -> FlowClassifier:
    torch.manual_seed(0)
    cell: Cell = request.param[0]
    network = FlowClassifier(3, WIDTH, HEIGHT, cell, Network(recurrence=request.param[1], size=8, dropout=0.5))
    network.standardise(torch.randn(50, network.boundaries.size))
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("splits", [[1] * NUM_STEPS, [3, 4], [6, 1]], ids=str)
def test_any_split_of_a_video_equals_one_call(classifier: FlowClassifier, splits: list[int]) -> None:
    frames, lengths = make_frames(2), torch.tensor([NUM_STEPS] * 2)
    (now, so_far), end = classifier.step(frames, lengths, classifier.initial_state(2, HEIGHT, WIDTH))
    state = classifier.initial_state(2, HEIGHT, WIDTH)
    parts: list[tuple[Tensor, Tensor]] = []
    for chunk in frames.split(splits, dim=1):
        outputs, state = classifier.step(chunk, torch.tensor([chunk.shape[1]] * 2), state)
        parts.append(outputs)

    torch.testing.assert_close(torch.cat([part[0] for part in parts], 1), now, atol=EXACT, rtol=0)
    torch.testing.assert_close(torch.cat([part[1] for part in parts], 1), so_far, atol=EXACT, rtol=0)
    torch.testing.assert_close(state, end, atol=EXACT, rtol=0)
    torch.testing.assert_close(classifier(frames, lengths), so_far[:, -1], atol=EXACT, rtol=0)
    torch.testing.assert_close(now.mean(dim=1), so_far[:, -1], atol=EXACT, rtol=0)


@torch.no_grad()
def test_padding_and_company_change_nothing(classifier: FlowClassifier) -> None:
    frames, lengths = make_frames(3), torch.tensor([NUM_STEPS, 3, 1])
    logits = classifier(frames, lengths)
    _, state = classifier.step(frames, lengths, classifier.initial_state(3, HEIGHT, WIDTH))
    for row, length in enumerate(lengths.tolist()):
        alone, alone_length = frames[row : row + 1, :length], torch.tensor([length])
        torch.testing.assert_close(classifier(alone, alone_length), logits[row : row + 1], atol=EXACT, rtol=0)
        _, alone_state = classifier.step(alone, alone_length, classifier.initial_state(1, HEIGHT, WIDTH))
        torch.testing.assert_close(alone_state[0], state[row], atol=EXACT, rtol=0)


@torch.no_grad()
def test_length_0_leaves_the_state_bit_by_bit(classifier: FlowClassifier) -> None:
    frames = make_frames(2)
    _, state = classifier.step(frames, torch.tensor([4, 0]), classifier.initial_state(2, HEIGHT, WIDTH))
    assert torch.equal(state[1:], classifier.initial_state(1, HEIGHT, WIDTH))
    outputs, after = classifier.step(frames, torch.tensor([0, 0]), state)
    assert torch.equal(after, state)
    assert all(output.isfinite().all() for output in outputs)


@torch.no_grad()
def test_served_equals_eager(classifier: FlowClassifier) -> None:
    served = torchscript.load(torchscript.save(torchscript.script(classifier)))
    frames, lengths = make_frames(2, 50, 70), torch.tensor([NUM_STEPS, 4])  # of another size than its own
    torch.testing.assert_close(served(frames, lengths), classifier(frames, lengths), atol=EXACT, rtol=0)


@torch.no_grad()
def test_measuring_in_chunks_is_what_the_network_measures(
    classifier: FlowClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = make_frames(1)
    whole, _ = classifier.measure(frames, torch.tensor([NUM_STEPS]), classifier.initial_state(1, HEIGHT, WIDTH))
    monkeypatch.setattr("trainer.tasks.flow.CHUNK_STEPS", 3)
    torch.testing.assert_close(measure(classifier, frames[0].numpy()), whole[0], atol=EXACT, rtol=0)


@pytest.mark.parametrize(("right", "down"), [(0.4, -0.3), (1.5, 0.5), (-2.5, 1.0)])
def test_slope_flow_finds_a_shift_to_parts_of_a_pixel(right: float, down: float) -> None:
    world = make_texture(64, 80)
    y, x = torch.meshgrid(torch.arange(48.0) + 8, torch.arange(60.0) + 10, indexing="ij")

    def seen_from(x: Tensor, y: Tensor) -> Tensor:
        grid = torch.stack(((x + 0.5) / 40 - 1, (y + 0.5) / 32 - 1), dim=2)
        return F.grid_sample(world, grid.unsqueeze(0), mode="bicubic", align_corners=False)

    flow = SlopeFlow()(seen_from(x + right, y + down), seen_from(x, y))[0, :, 12:-12, 12:-12]
    torch.testing.assert_close(flow.mean(dim=(1, 2)), torch.tensor([right, down]), atol=0.05, rtol=0)
    assert flow.std(dim=(1, 2)).max() < 0.1


def test_the_camera_is_what_most_of_the_picture_does() -> None:
    y, x = torch.meshgrid(torch.linspace(-0.5, 0.5, HEIGHT), torch.linspace(-0.5, 0.5, WIDTH), indexing="ij")
    camera = torch.stack((1.0 + 0.5 * x - 0.2 * y, -0.3 + 0.2 * x + 0.5 * y)).unsqueeze(0)  # it zooms, rolls and pans
    flow = camera.clone()
    flow[:, :, 8:20, 10:24] += torch.tensor([3.0, -2.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(AffineMotion(HEIGHT, WIDTH)(flow), camera, atol=0.05, rtol=0)


def test_an_arrow_is_shared_by_the_two_directions_next_to_it() -> None:
    arrows = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, -1.0], [1.0, 0.4142]]).reshape(4, 2, 1, 1)
    found = by_direction(arrows, 8).flatten(1)
    length = arrows.flatten(1).norm(dim=1)
    torch.testing.assert_close(found.sum(dim=1), length)
    assert [row.nonzero().flatten().tolist() for row in (found > 1e-3)] == [[0], [2], [5], [0, 1]]
    torch.testing.assert_close(found[3, 0], found[3, 1], rtol=1e-2, atol=0)


def measured(moves: list[tuple[int, int]]) -> Tensor:
    """The last step of a still world in which textured squares move about by those ways (right, down) each step."""
    light = make_texture(60, 96).expand(1, NUM_STEPS, -1, -1).clone()
    for index, (right, down) in enumerate(moves):
        thing = make_texture(12, 12, index + 1)[0, 0]
        for t in range(NUM_STEPS):
            top, left = 24 + (index // 3) * 12 - 12 + t * down, 30 + (index % 3) * 12 + t * right
            light[0, t, top : top + 12, left : left + 12] = thing
    boundaries = MotionBoundaries(60, 96)
    state, none = torch.zeros(1, boundaries.state_size), torch.zeros(1)
    steps: Tensor = boundaries(light, torch.tensor([NUM_STEPS]), state, none)[0]
    return steps[0, -1]


@torch.no_grad()
def test_disorder_is_more_than_motion() -> None:
    """Squares that move apart have more boundaries between them than when they move as one block."""
    still, together = measured([]), measured([(1, 0)] * 6)
    apart = measured([(1, 0), (0, -1), (-1, 0), (0, 1), (-1, 1), (1, -1)])
    assert (apart[BOUNDARIES] > together[BOUNDARIES] + 0.4).all()
    assert (together[BOUNDARIES] > still[BOUNDARIES] + 1.0).all()
    assert (still[:25] == 0).all()


def test_training_takes_parts_and_mirror_images_and_validation_all_as_it_is() -> None:
    recipe = read_recipe(RECIPES / "fight.yaml", ["sampling.flip=1.0"], FlowRecipe)
    straight, mirrored = torch.arange(50.0).unsqueeze(1), -torch.arange(50.0).unsqueeze(1)
    parts = MeasuredVideos([(straight, mirrored)] * 2, [0, 1], recipe, seed=0)
    drawn = [parts[draw] for draw in range(40)]
    assert [label for _, label in drawn] == [0, 1] * 20
    assert all((steps <= 0).all() and (steps.diff(dim=0) == -1).all() for steps, _ in drawn)
    lengths = {len(steps) for steps, _ in drawn}
    assert max(lengths) == 30
    assert 10 <= min(lengths) < 20
    assert torch.equal(parts[7][0], parts[7][0])

    whole = MeasuredVideos([(straight, mirrored)] * 2, [0, 1], recipe, seed=None)
    steps, steps_lengths, labels = collate([whole[0], (straight[:3], 1)])
    assert steps_lengths.tolist() == [50, 3]
    assert labels.tolist() == [0, 1]
    assert torch.equal(steps[0], straight)
    assert (steps[1, 3:] == 0).all()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_ways_to_move_are_learnt_from_a_few_videos_and_published(
    motion: Path, tmp_path: Path, cell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "classify", "--name", "ways", "--data", str(motion), "--recipe", "trainer/recipes/fight.yaml"]
    arguments += ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "run"), "--cell", cell]
    arguments += ["--store", str(tmp_path / "store"), "--accelerator", "cpu", "--threads", "1", "--decoders", "1"]
    settings = [
        "sampling.flip=0",
        "budget.num_epochs=40",
        "budget.validate_every=40",
        "network.dropout=0.1",
        "optimisation.learning_rate=0.01",
    ]
    main([*arguments, "--val-fraction", "0.3", *(part for setting in settings for part in ("--set", setting))])
    manifest = load_version(tmp_path / "store" / "ways" / "1").manifest

    assert isinstance(manifest.output, ClassifyOutput)
    assert (manifest.input.sampling, manifest.input.rate, manifest.input.clip_length) == ("rate", 15.0, None)
    assert manifest.metrics["val"]["accuracy"] >= 0.7
    assert manifest.metrics["val"]["accuracy_one_frame"] <= 0.5

    store, cache = str(tmp_path / "store"), str(tmp_path / "cache")
    main(["evaluate", "--model", "ways", "--data", str(motion), "--store", store, "--cache", cache, "--decoders", "1"])
    assert "| all | 30 |" in capsys.readouterr().out


def test_what_holds_of_each_moment_is_not_evaluated_as_one_label(motion: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match="bench/ measures such models"):
        evaluate(Path("model_store"), "camera", None, DataOptions(motion, tmp_path), None, None)
