import warnings

import pytest
import torch
from torch import Tensor

from trainer.networks.attention import RunningAttention
from trainer.networks.classifier import VideoClassifier
from trainer.networks.decoders import ForecastDecoder
from trainer.networks.frame_encoder import FrameEncoder
from trainer.networks.recurrent import Cell, LstmCell, Recurrent
from trainer.recipe.classify import Network

WIDTH, HEIGHT, NUM_LABELS, NUM_STEPS = 32, 24, 5, 7
EXACT = 1e-5  # the contract's, in float32: sums in another order, nothing else
CELLS: list[Cell] = ["lstm", "gru"]


def make_classifier(cell: Cell, recurrence: str = "cell", differences: bool = True) -> VideoClassifier:
    torch.manual_seed(0)
    network = Network.model_validate(
        {
            "recurrence": recurrence,
            "num_channels": [8, 16, 16],
            "blocks_per_stage": 1,
            "size": 12,
            "num_heads": 3,
            "differences": differences,
            "dropout": 0.5,
        }
    )
    return VideoClassifier(NUM_LABELS, WIDTH, HEIGHT, cell, network).eval()


def make_frames(batch_size: int, num_steps: int = NUM_STEPS, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch_size, num_steps, height, width, 3), dtype=torch.uint8, generator=generator)


def script(module: torch.nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's own farewell
        return torch.jit.script(module)


@pytest.fixture(
    params=[
        (cell, recurrence, differences)
        for cell in CELLS
        for recurrence in ("cell", "none")
        for differences in (True, False)
    ],
    ids=str,
)
def classifier(request: pytest.FixtureRequest) -> VideoClassifier:
    return make_classifier(*request.param)


@torch.no_grad()
@pytest.mark.parametrize("splits", [[1] * NUM_STEPS, [3, 4], [6, 1]], ids=str)
def test_any_split_of_a_clip_equals_one_call(classifier: VideoClassifier, splits: list[int]) -> None:
    frames = make_frames(2)
    whole_lengths = torch.tensor([NUM_STEPS, NUM_STEPS])
    (now, so_far), end = classifier.step(frames, whole_lengths, classifier.initial_state(2, HEIGHT, WIDTH))

    state = classifier.initial_state(2, HEIGHT, WIDTH)
    parts: list[tuple[Tensor, Tensor]] = []
    for chunk in frames.split(splits, dim=1):
        outputs, state = classifier.step(chunk, torch.tensor([chunk.shape[1]] * 2), state)
        parts.append(outputs)

    torch.testing.assert_close(torch.cat([part[0] for part in parts], 1), now, atol=EXACT, rtol=0)
    torch.testing.assert_close(torch.cat([part[1] for part in parts], 1), so_far, atol=EXACT, rtol=0)
    torch.testing.assert_close(state, end, atol=EXACT, rtol=0)
    torch.testing.assert_close(classifier(frames, whole_lengths), so_far[:, -1], atol=EXACT, rtol=0)


@torch.no_grad()
def test_padding_and_company_change_nothing(classifier: VideoClassifier) -> None:
    frames, lengths = make_frames(3), torch.tensor([NUM_STEPS, 3, 1])
    logits = classifier(frames, lengths)
    (now, _), state = classifier.step(frames, lengths, classifier.initial_state(3, HEIGHT, WIDTH))

    for row, length in enumerate(lengths.tolist()):
        alone, alone_length = frames[row : row + 1, :length], torch.tensor([length])
        torch.testing.assert_close(classifier(alone, alone_length), logits[row : row + 1], atol=EXACT, rtol=0)
        (alone_now, _), alone_state = classifier.step(alone, alone_length, classifier.initial_state(1, HEIGHT, WIDTH))
        torch.testing.assert_close(alone_now[0], now[row, :length], atol=EXACT, rtol=0)
        torch.testing.assert_close(alone_state[0], state[row], atol=EXACT, rtol=0)


@torch.no_grad()
def test_length_0_leaves_the_state_bit_by_bit(classifier: VideoClassifier) -> None:
    frames = make_frames(2)
    _, state = classifier.step(frames, torch.tensor([4, 0]), classifier.initial_state(2, HEIGHT, WIDTH))
    assert torch.equal(state[1:], classifier.initial_state(1, HEIGHT, WIDTH))

    outputs, after = classifier.step(frames, torch.tensor([0, 0]), state)
    assert torch.equal(after, state)
    assert all(output.isfinite().all() for output in outputs)


@torch.no_grad()
def test_scripted_equals_eager(classifier: VideoClassifier) -> None:
    scripted = script(classifier)
    frames, lengths = make_frames(2), torch.tensor([NUM_STEPS, 2])
    state = classifier.initial_state(2, HEIGHT, WIDTH)

    assert torch.equal(scripted.initial_state(2, HEIGHT, WIDTH), state)
    assert torch.equal(scripted(frames, lengths), classifier(frames, lengths))
    (now, so_far), end = classifier.step(frames, lengths, state)
    (scripted_now, scripted_so_far), scripted_end = scripted.step(frames, lengths, state)
    assert torch.equal(scripted_now, now)
    assert torch.equal(scripted_so_far, so_far)
    assert torch.equal(scripted_end, end)


@torch.no_grad()
def test_a_frame_of_another_size_is_resized_inside() -> None:
    classifier = make_classifier("gru")
    large = make_frames(1).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    lengths = torch.tensor([NUM_STEPS])

    assert classifier.initial_state(1, 2 * HEIGHT, 2 * WIDTH).shape == classifier.initial_state(1, HEIGHT, WIDTH).shape
    (now, _), state = classifier.step(large, lengths, classifier.initial_state(1, 2 * HEIGHT, 2 * WIDTH))
    assert now.shape == (1, NUM_STEPS, NUM_LABELS)
    assert state.shape == classifier.initial_state(1, HEIGHT, WIDTH).shape


@torch.no_grad()
def test_order_matters_to_a_recurrence_and_not_to_a_mean() -> None:
    frames, lengths = make_frames(1), torch.tensor([NUM_STEPS])
    backwards = frames.flip(1)
    for cell in CELLS:
        classifier = make_classifier(cell, differences=False)
        assert (classifier(frames, lengths) - classifier(backwards, lengths)).abs().max() > 100 * EXACT
    mean = make_classifier("gru", recurrence="none", differences=False).encoder
    embedded = torch.randn(1, NUM_STEPS, 12)
    state = torch.zeros(1, 13)
    forwards_mean, _ = mean(embedded, lengths, state)
    backwards_mean, _ = mean(embedded.flip(1), lengths, state)
    torch.testing.assert_close(forwards_mean[:, -1], backwards_mean[:, -1], atol=EXACT, rtol=0)


@torch.no_grad()
def test_the_change_of_brightness_is_seen_across_a_split() -> None:
    classifier = make_classifier("gru")
    frames = make_frames(1, num_steps=2)
    _, state = classifier.step(frames[:, :1], torch.tensor([1]), classifier.initial_state(1, HEIGHT, WIDTH))
    (moved, _), _ = classifier.step(frames[:, 1:], torch.tensor([1]), state)
    still = torch.cat((state[:, : -HEIGHT * WIDTH], torch.zeros(1, HEIGHT * WIDTH)), dim=1)
    (black_before, _), _ = classifier.step(frames[:, 1:], torch.tensor([1]), still)
    assert (moved - black_before).abs().max() > 100 * EXACT


@torch.no_grad()
def test_running_attention_is_a_softmax_even_of_huge_scores() -> None:
    torch.manual_seed(0)
    attention = RunningAttention(size=6, num_heads=2)
    attention.score[2].weight.mul_(1000.0)
    x = torch.randn(2, 5, 6)

    contexts, _ = attention(x, torch.tensor([5, 5]), attention.initial_state(2))

    scores = attention.score(x)  # (B,T,heads)
    assert scores.abs().max() > 100  # exp of it would overflow float32
    weights = scores.softmax(dim=1)
    expected = torch.einsum("bth,bthd->bhd", weights, x.reshape(2, 5, 2, 3)).flatten(1)
    torch.testing.assert_close(contexts[:, -1], expected, atol=EXACT, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_equals_torchs_own(cell: Cell) -> None:
    torch.manual_seed(0)
    ours = Recurrent(cell, 4, 6)
    theirs: torch.nn.LSTM | torch.nn.GRU = (torch.nn.LSTM if cell == "lstm" else torch.nn.GRU)(4, 6, batch_first=True)
    for name, parameter in ours.cell.cell.named_parameters():
        getattr(theirs, f"{name}_l0").copy_(parameter)
    x = torch.randn(3, 5, 4)

    hidden, _ = ours(x, torch.tensor([5, 5, 5]), torch.zeros(3, ours.state_size))

    torch.testing.assert_close(hidden, theirs(x)[0], atol=EXACT, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_matrices_begin_orthogonal(cell: Cell) -> None:
    recurrent = Recurrent(cell, 4, 6)
    for gate in recurrent.cell.cell.weight_hh.split(6):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=EXACT, rtol=0)


def test_an_lstm_begins_by_remembering() -> None:
    cell = LstmCell(4, 6).cell
    forget = (cell.bias_ih + cell.bias_hh).split(6)[1]  # torch's order: input, forget, cell, output
    assert torch.equal(forget, torch.ones(6))


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_reaches_every_weight_from_the_last_step(cell: Cell) -> None:
    classifier = make_classifier(cell)
    frames, lengths = make_frames(2), torch.tensor([NUM_STEPS, 3])
    (now, so_far), _ = classifier.step(frames, lengths, classifier.initial_state(2, HEIGHT, WIDTH))
    (now[:, -1].square().sum() + so_far[:, -1].square().sum()).backward()
    for name, parameter in classifier.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_gradient_flows_from_the_last_step_to_the_first() -> None:
    for cell in CELLS:
        classifier = make_classifier(cell)
        embedded = torch.randn(1, 12, 12, requires_grad=True)
        state = classifier.initial_state(1, HEIGHT, WIDTH)
        now, _, _, _ = classifier.unroll(embedded, torch.tensor([12]), state)
        now[:, -1].sum().backward()
        assert embedded.grad is not None
        assert embedded.grad[0, 0].abs().max() > 0


def test_a_frame_encoder_sees_one_frame_at_a_time() -> None:
    encoder = FrameEncoder(3, [8, 16], blocks_per_stage=1, maximum=True).eval()
    pictures = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pictures)[1:2], encoder(pictures[1:2]), atol=EXACT, rtol=0)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="5 heads"):
        RunningAttention(size=12, num_heads=5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_forecast_depends_on_what_was_encoded(cell: Cell) -> None:
    forecaster = ForecastDecoder(cell, encoded_size=6, embedded_size=4)
    encoded = torch.randn(2, 6, requires_grad=True)
    forecast = forecaster(encoded, horizon=3)
    assert forecast.shape == (2, 3, 4)
    forecast[:, -1].sum().backward()
    assert encoded.grad is not None
    assert (encoded.grad.abs().sum(dim=1) > 0).all()
