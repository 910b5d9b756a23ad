"""The describer: what it reads is measured right, what it writes is searched right, whole, padded and alone."""

import itertools

import numpy as np
import pytest
import torch

from app.models import torchscript
from trainer.data.textures import draw_texture
from trainer.networks.camera_classifier import CameraClassifier
from trainer.networks.camera_steps import CameraSteps
from trainer.networks.describer import BOS, EOS, PAD, Describer
from trainer.networks.frame_steps import FrameSteps
from trainer.networks.measured_steps import MeasuredSteps, WholeMotion
from trainer.networks.writing import StepClock
from trainer.recipe.camera import Network

WIDTH, HEIGHT, RATE = 64, 48, 12.0
# Rounding of float32 in another order of sums: the contract's tolerance.
TOLERANCE = 1e-5
NUM_WORDS = 9


def describer(cell: str = "gru", max_seconds: int = 2, *, frames: bool = False) -> Describer:
    torch.manual_seed(0)
    network = Network(num_channels=(4, 8), mixed_channels=4, lag=3, size=8, dropout=0.0)
    camera = torchscript.script(CameraClassifier(WIDTH, HEIGHT, RATE, "gru", network))
    steps = FrameSteps((4, 8), 0, 8, 0.0) if frames else CameraSteps(camera)
    return Describer(steps, cell, 8, NUM_WORDS, StepClock(RATE, max_seconds)).eval()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    """(2,16,48,64,3): stills that move to the left, by one pixel and by two a step."""
    still = draw_texture(WIDTH + 40, HEIGHT, np.random.default_rng(0))
    clip = [[still[:, speed * t : speed * t + WIDTH] for t in range(16)] for speed in (1, 2)]
    return torch.from_numpy(np.array(clip))


def test_pixels_moved_are_measured(clips: torch.Tensor) -> None:
    light = clips.float().mean(dim=4) / 255.0
    half = torch.nn.functional.avg_pool2d(light, 2)
    steps, _ = MeasuredSteps(WIDTH, HEIGHT, RATE, lag=3)(light[:, 3:], light[:, 2:-1], half[:, 3:], half[:, :-3])
    speed = steps[:, 5:, 0].sign() * (torch.exp(2 * steps[:, 5:, 0].abs()) - 1) * MeasuredSteps.slow
    # Widths per second of a pixel a step. Slopes are differences over two pixels, which fine textures do not have
    # everywhere: within a third.
    torch.testing.assert_close(speed.mean(dim=1)[0], torch.tensor(-RATE / WIDTH), rtol=0.34, atol=0)


def test_what_a_camera_says_and_measures_is_read(clips: torch.Tensor) -> None:
    network = Network(num_channels=(4, 8), mixed_channels=4, lag=3, size=8, dropout=0.5)
    camera = CameraClassifier(WIDTH, HEIGHT, RATE, "gru", network).eval()
    reader = CameraSteps(torchscript.load_as_saved(torchscript.save(torchscript.script(camera)))).train()
    lengths = torch.tensor([16, 16])
    with torch.no_grad():
        steps = reader(clips, lengths)
        state = camera.initial_state(2, HEIGHT, WIDTH)
        (now, _), _ = camera.step(clips, lengths, state)
        _, _, numbers = camera.measure(camera.light(clips), state)
    assert not any(parameter.requires_grad for parameter in reader.parameters())
    assert steps.shape == (2, 16, reader.size)
    # Also while what reads it is trained: its dropout is off.
    torch.testing.assert_close(steps[..., :13], now / CameraSteps.scale, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(steps[..., 13:], numbers[..., : steps.shape[2] - 13], atol=TOLERANCE, rtol=0)


def test_a_thing_that_moves_by_itself_counts_little() -> None:
    """Most cells go left by half a pixel, a third of them down by one."""
    flow = torch.zeros(1, 3, 6, 8)
    flow[:, 0], flow[:, 2] = -0.5, 1.0
    flow[:, 0, :4, :4], flow[:, 1, :4, :4] = 0.0, 1.0
    motion, apart = WholeMotion(6, 8, 0.75)(flow)
    # A plain mean would say -0.33 and 0.33; the prior towards no motion takes a thousandth.
    torch.testing.assert_close(motion, torch.tensor([[-0.5, 0.0, 0.0, 0.0]]), atol=0.02, rtol=0)
    assert apart.item() > 0.3


def test_zoom_and_roll_are_told_from_shifts() -> None:
    y, x = torch.meshgrid((torch.arange(6) - 2.5) / 6 * 0.75, (torch.arange(8) - 3.5) / 8, indexing="ij")
    zoom = torch.stack((0.6 * x, 0.6 * y, torch.ones(6, 8)))
    roll = torch.stack((-0.6 * y, 0.6 * x, torch.ones(6, 8)))
    motion, apart = WholeMotion(6, 8, 0.75)(torch.stack((zoom, roll)))
    torch.testing.assert_close(motion, torch.tensor([[0.0, 0, 0.6, 0], [0, 0, 0, 0.6]]), atol=2e-3, rtol=0)
    assert apart.max() < 0.01


def test_a_words_share_is_that_of_the_steps_it_is_for() -> None:
    """2 s at 12 steps a second: tenths 0.0 to 2.0, then 0, 1 and 2."""
    clock = StepClock(RATE, 2)
    tenths, wholes = torch.full((1, 24), -9.0), torch.full((1, 24), -9.0)
    tenths[0, 6] = 5.0  # 0.5 s
    wholes[0, 14:18] = 5.0  # 1.17 to 1.42 s: nearest to 1
    shares = clock(tenths, wholes).softmax(dim=1)[0]
    assert clock.num_words == 24
    assert shares[5] == pytest.approx(0.2, abs=0.01)
    assert shares[21 + 1] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("frames", [False, True])
def test_compiled_padded_and_alone_agree(clips: torch.Tensor, cell: str, frames: bool) -> None:
    module = describer(cell, frames=frames)
    compiled = torchscript.load(torchscript.save(torchscript.script(module)))
    with torch.inference_mode():
        tokens, scores = compiled(clips, torch.tensor([16, 9]), 3, 10, 0.7)
        same, alike = module(clips, torch.tensor([16, 9]), 3, 10, 0.7)
        alone, near = compiled(clips[1:, :9], torch.tensor([9]), 3, 10, 0.7)
    assert tokens.shape == (2, 3, 10)
    assert torch.equal(tokens, same)
    assert torch.equal(tokens[1:], alone)
    torch.testing.assert_close(scores, alike, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(scores[1:], near, atol=TOLERANCE, rtol=0)


def test_a_wide_beam_finds_the_likeliest_of_all_comments(clips: torch.Tensor) -> None:
    """Of every comment of up to three tokens, scored one by one as in training."""
    module = describer(max_seconds=0)
    lengths = torch.tensor([16])
    with torch.no_grad():
        steps = module.steps(clips[:1], lengths)
        tokens, scores = module.search(steps, lengths, 13**2, 3, 0.0)
        words = [token for token in range(module.num_tokens) if token not in (PAD, BOS, EOS)]
        comments = [(EOS,), *((a, EOS) for a in words)]
        comments += [(a, b, c) for a, b in itertools.product(words, words) for c in (*words, EOS)]
        told = torch.tensor([[BOS, *comment, *[PAD] * (3 - len(comment))] for comment in comments])
        shares, _ = module.teach(steps.expand(len(told), -1, -1), lengths.expand(len(told)), told[:, :-1])
        picked = shares.gather(2, told[:, 1:].unsqueeze(2))[..., 0]
        true = torch.where(told[:, 1:] == PAD, 0.0, picked).sum(dim=1)
    best = true.argsort(descending=True)[:20]
    # Shares of <pad> and <bos>, which the search never writes, are left out of both.
    assert tokens[0, :20].tolist() == told[best, 1:].tolist()
    torch.testing.assert_close(scores[0, :20], true[best], atol=TOLERANCE, rtol=0)


def test_a_length_penalty_favours_longer_comments(clips: torch.Tensor) -> None:
    module = describer()
    with torch.no_grad():
        _, plain = module(clips[:1], torch.tensor([16]), 5, 4, 0.0)
        tokens, scores = module(clips[:1], torch.tensor([16]), 5, 4, 1.0)
    written = (tokens != PAD).sum(dim=2)
    assert (scores[0, :-1] >= scores[0, 1:]).all()
    torch.testing.assert_close((scores * (5 + written) / 6).sort(descending=True)[0], plain, atol=TOLERANCE, rtol=0)
