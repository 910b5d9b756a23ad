"""The forecaster keeps the contract of scripted modules, and begins with motion that goes on."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.models import torchscript
from trainer.networks.conv_recurrent import ConvRecurrent
from trainer.networks.flow import FlowPyramid
from trainer.networks.forecaster import Forecaster
from trainer.networks.recurrent import Cell
from trainer.networks.warping import follow, match_costs, smooth, warp

TOLERANCE = 1e-5  # float32 sums in another order: the contract's own


@pytest.fixture(
    params=[("gru", False), ("lstm", False), ("gru", True)], ids=["gru", "lstm", "gru that paints"], scope="module"
)
def module(request: pytest.FixtureRequest) -> Any:
    return scripted(*request.param)


def scripted(cell: Cell, painted: bool) -> Any:
    """Small, scripted and frozen, with heads that are not zero any more."""
    torch.manual_seed(0)
    network = Forecaster(cell, painted, num_features=8, quarter_size=8, eighth_size=8)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return torchscript.load(torchscript.save(torchscript.script(network)))


def moving_frames(batch_size: int, num_steps: int, height: int = 44, width: int = 60) -> Tensor:
    """(B,T,H,W,3) uint8: smooth pictures that drift two pixels to the right a step."""
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(batch_size, 3, 9, 25, generator=generator)
    wide = nn.functional.interpolate(pictures, (height, width + 2 * num_steps), mode="bicubic").clamp(0, 1)
    steps = [wide[..., 2 * (num_steps - t) : 2 * (num_steps - t) + width] for t in range(num_steps)]
    return (torch.stack(steps, dim=1) * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2).contiguous()


def test_any_split_equals_the_whole(module: Any) -> None:
    frames, lengths = moving_frames(2, 7), torch.tensor([7, 4])
    with torch.inference_mode():
        whole = module(frames, lengths, 4)
        initial = module.initial_state(2, 44, 60)
        next_frames, state = module.step(frames, lengths, initial)
        for cuts in ([3], [1, 2, 5]):
            split, answers = initial, []
            for begin, end in itertools.pairwise([0, *cuts, 7]):
                answer, split = module.step(frames[:, begin:end], (lengths - begin).clamp(0, end - begin), split)
                answers.append(answer)
            torch.testing.assert_close(split, state, rtol=0, atol=TOLERANCE)
            joined = torch.cat(answers, dim=1)
            for row, length in enumerate(lengths):
                torch.testing.assert_close(joined[row, :length], next_frames[row, :length], rtol=0, atol=TOLERANCE)
            torch.testing.assert_close(module.decode(split, 4, 44, 60), whole, rtol=0, atol=TOLERANCE)


def test_padded_and_batched_equals_alone(module: Any) -> None:
    frames, lengths = moving_frames(3, 6), torch.tensor([6, 3, 1])
    garbled = frames.clone()
    garbled[1, 3:] = 255 - garbled[1, 3:]  # beyond its length
    with torch.inference_mode():
        together = module(garbled, lengths, 3)
        for row, length in enumerate(lengths):
            alone = module(frames[row : row + 1, :length], lengths[row : row + 1], 3)
            torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=TOLERANCE)


def test_a_row_without_frames_keeps_its_state(module: Any) -> None:
    frames = moving_frames(2, 4)
    with torch.inference_mode():
        _, state = module.step(frames, torch.tensor([4, 4]), module.initial_state(2, 44, 60))
        _, after = module.step(frames.flip(1), torch.tensor([0, 4]), state)
    assert torch.equal(after[0], state[0])
    assert not torch.equal(after[1], state[1])


def test_answers_have_the_size_of_the_frames_and_are_pictures(module: Any) -> None:
    for height, width in ((1, 1), (17, 5), (96, 128)):
        frames = moving_frames(1, 2, height, width)
        with torch.inference_mode():
            forecast = module(frames, torch.tensor([2]), 5)
            next_frames, _ = module.step(frames, torch.tensor([2]), module.initial_state(1, height, width))
        assert forecast.shape == (1, 5, height, width, 3)
        assert next_frames.shape == (1, 2, height, width, 3)
        assert forecast.dtype == torch.float32
        assert 0 <= forecast.min() <= forecast.max() <= 1


def test_the_first_frames_of_a_long_forecast_are_those_of_a_short_one(module: Any) -> None:
    frames, lengths = moving_frames(1, 5), torch.tensor([5])
    with torch.inference_mode():
        torch.testing.assert_close(
            module(frames, lengths, 12)[:, :3], module(frames, lengths, 3), rtol=0, atol=TOLERANCE
        )


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_still_video_goes_on_unchanged(cell: Cell) -> None:
    module = scripted(cell, painted=False)
    frames = moving_frames(1, 1).expand(-1, 6, -1, -1, -1)
    with torch.inference_mode():
        forecast = module(frames, torch.tensor([6]), 10)
    expected = frames[:, -1:].expand(-1, 10, -1, -1, -1) / 255
    torch.testing.assert_close(forecast, expected, rtol=0, atol=TOLERANCE)


def test_what_is_half_trusted_is_less_so_further_ahead() -> None:
    network = Forecaster("gru", False, num_features=8, quarter_size=8, eighth_size=8)
    shares = network.damped(torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1), 3).flatten(1)
    assert shares.tolist() == [[0, 0, 0], [0.5, 0.375, pytest.approx(0.875 / 3)], [1, 1, 1]]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_untrained_forecaster_carries_motion_on(cell: Cell) -> None:
    torch.manual_seed(0)
    network = Forecaster(cell, False, num_features=8, quarter_size=8, eighth_size=8).eval()
    frames = moving_frames(1, 11, 48, 64)
    observed, truth = frames[:, :8], frames[:, 8:] / 255.0
    with torch.inference_mode():
        forecast = network(observed, torch.tensor([8]), 3)
    inside = (..., slice(8, -8), slice(16, -8), slice(None))  # what comes in from outside cannot be known
    copied = (observed[:, -1:] / 255.0 - truth)[inside].square().mean(dim=(0, 2, 3, 4))
    errors = (forecast - truth)[inside].square().mean(dim=(0, 2, 3, 4))
    assert (errors < copied / 4).all(), (errors, copied)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_convolutional_recurrence_stops_and_goes_on(cell: Cell) -> None:
    torch.manual_seed(0)
    recurrent = ConvRecurrent(cell, in_channels=3, size=4)
    x, lengths = torch.randn(2, 5, 3, 6, 7), torch.tensor([5, 2])
    initial = torch.zeros(2, recurrent.state_channels, 6, 7)
    states, state = recurrent(x, lengths, initial)
    torch.testing.assert_close(states[:, -1], state)
    torch.testing.assert_close(states[1, 1], state[1])
    by_steps = initial
    for t in range(5):
        by_steps = recurrent.step(x[:, t], by_steps)
    torch.testing.assert_close(by_steps[0], state[0], rtol=0, atol=TOLERANCE)
    assert recurrent.hidden(state).shape == (2, 4, 6, 7)


def test_warping_fetches_from_where_the_flow_says() -> None:
    maps = torch.arange(20.0).reshape(1, 1, 4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0] = 1.0  # from one pixel to the right
    assert warp(maps, flow)[0, 0, 0].tolist() == pytest.approx([1, 2, 3, 4, 4])  # the border repeats
    flow[:, 0], flow[:, 1] = 0.0, -0.5
    assert warp(maps, flow)[0, 0, :, 0].tolist() == pytest.approx([0, 2.5, 7.5, 12.5])


def test_flows_one_after_the_other_are_one() -> None:
    torch.manual_seed(0)
    maps = torch.rand(1, 1, 12, 12)
    first = torch.full((1, 2, 12, 12), 2.0)
    second = torch.tensor([1.0, -3.0]).reshape(1, 2, 1, 1).expand(1, 2, 12, 12)
    twice = warp(warp(maps, first), second)
    once = warp(maps, follow(second, first))
    inside = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(once[inside], twice[inside], rtol=0, atol=TOLERANCE)


def test_the_cheapest_shift_is_where_a_picture_came_from() -> None:
    torch.manual_seed(0)
    before = torch.rand(1, 1, 16, 16)
    now = torch.roll(before, shifts=(1, -2), dims=(2, 3))  # one down, two to the left
    costs = match_costs(now, before, radius=3)
    row, column = divmod(int(costs[..., 4:-4, 4:-4].mean(dim=(0, 2, 3)).argmin()), 7)
    assert (row - 3, column - 3) == (-1, 2)


def test_the_pyramid_finds_how_far_things_moved() -> None:
    frames = moving_frames(1, 2, 48, 64)[..., :1] / 255.0
    before, now = (frames[:, t].permute(0, 3, 1, 2) for t in range(2))
    flow = FlowPyramid()(now, before)[..., 12:-12, 12:-12]
    assert flow[:, 0].mean().item() == pytest.approx(-2.0, abs=0.25)  # two pixels to the right; places without texture
    assert flow[:, 1].mean().item() == pytest.approx(0.0, abs=0.25)  # say less
    still = FlowPyramid()(now, now)
    assert still.abs().mean() < 0.1  # in plain places every shift matches


def test_smoothing_is_a_mean_of_what_is_in_the_picture() -> None:
    maps = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert smooth(maps, 3)[0, 0].tolist() == [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]]
