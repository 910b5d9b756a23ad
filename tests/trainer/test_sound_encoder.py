import pytest
import torch
from torch import Tensor

from app.models import torchscript
from trainer.data.golden_sound import draw_sound
from trainer.networks.components import Components
from trainer.networks.moments import legendre
from trainer.networks.recurrent import Cell, Recurrent
from trainer.networks.sound_decoder import SoundDecoder, run_whole
from trainer.networks.sound_encoder import SoundEncoder
from trainer.networks.sound_statistics import SoundStatistics
from trainer.recipe.features import Network

EXACT = 1e-5  # the contract's, in float32
STEP = SoundEncoder.step_samples
NUM_STEPS = 10
CELLS: list[Cell] = ["lstm", "gru"]


@pytest.fixture(params=CELLS)
def encoder(request: pytest.FixtureRequest) -> SoundEncoder:
    """Its components are those of 64 tones in noise."""
    torch.manual_seed(0)
    network = Network(num_channels=8, size=12, bottleneck=6, num_components=16, dropout=0.5)
    encoder = SoundEncoder(request.param, network).eval()
    places = torch.arange(NUM_STEPS * STEP).unsqueeze(0) / 16_000
    tones = torch.rand(64, 1) * torch.sin(torch.rand(64, 1) * 6_000 * places) + torch.rand(64, 1) * torch.randn(64, 1)
    with torch.no_grad():
        state = encoder.listen(tones, torch.full((64,), NUM_STEPS * STEP))[1]
        encoder.components.fit(encoder.summary(state))
    return encoder


@pytest.fixture(scope="module")
def waveform() -> Tensor:
    """(2,N)"""
    return torch.from_numpy(draw_sound(NUM_STEPS * STEP))


@torch.no_grad()
@pytest.mark.parametrize("splits", [[1] * NUM_STEPS, [3, 7], [9, 1]], ids=str)
def test_any_split_of_a_sound_equals_one_call(encoder: SoundEncoder, waveform: Tensor, splits: list[int]) -> None:
    clip, steps, step_lengths = encoder(waveform, torch.tensor([NUM_STEPS * STEP] * 2))
    state = encoder.initial_state(2, 0, 0)
    parts: list[Tensor] = []
    for chunk in waveform.split([count * STEP for count in splits], dim=1):
        vectors, state = encoder.step(chunk, torch.tensor([chunk.shape[1]] * 2), state)
        parts.append(vectors)

    assert step_lengths.tolist() == [NUM_STEPS] * 2
    assert steps.shape == (2, NUM_STEPS, encoder.size)
    assert clip.shape == (2, encoder.dimension)
    torch.testing.assert_close(torch.cat(parts, dim=1), steps, atol=EXACT, rtol=0)
    torch.testing.assert_close(encoder.clip(state), clip, atol=EXACT, rtol=0)


@torch.no_grad()
def test_a_minute_step_by_step_equals_one_call(encoder: SoundEncoder) -> None:
    """Where the mean is far from zero beside the deviation, as in hum, rounded sums of squares would show."""
    num_steps = 1500
    hum = torch.sin(torch.arange(num_steps * STEP) / 20.0).unsqueeze(0) * 0.5
    clip = encoder(hum, torch.tensor([num_steps * STEP]))[0]
    state = encoder.initial_state(1, 0, 0)
    for chunk in hum.split(STEP, dim=1):
        _, state = encoder.step(chunk, torch.tensor([STEP]), state)
    torch.testing.assert_close(encoder.clip(state), clip, atol=EXACT, rtol=0)


@torch.no_grad()
def test_padding_and_company_change_nothing(encoder: SoundEncoder, waveform: Tensor) -> None:
    lengths = torch.tensor([NUM_STEPS * STEP, 5 * STEP - 123])  # an incomplete step counts as one
    clip, steps, step_lengths = encoder(waveform, lengths)

    assert step_lengths.tolist() == [NUM_STEPS, 5]
    for row, length in enumerate(lengths.tolist()):
        alone, alone_steps, _ = encoder(waveform[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(alone[0], clip[row], atol=EXACT, rtol=0)
        torch.testing.assert_close(alone_steps[0], steps[row, : step_lengths[row]], atol=EXACT, rtol=0)


@torch.no_grad()
def test_length_0_leaves_the_state_bit_by_bit(encoder: SoundEncoder, waveform: Tensor) -> None:
    _, state = encoder.step(waveform, torch.tensor([4 * STEP, 0]), encoder.initial_state(2, 0, 0))
    assert torch.equal(state[1:], encoder.initial_state(1, 0, 0))
    _, after = encoder.step(waveform, torch.tensor([0, 0]), state)
    assert torch.equal(after, state)


@torch.no_grad()
def test_served_equals_eager(encoder: SoundEncoder, waveform: Tensor) -> None:
    served = torchscript.load(torchscript.save(torchscript.script(encoder)))
    lengths = torch.tensor([NUM_STEPS * STEP, 3 * STEP])
    for found, expected in zip(served(waveform, lengths), encoder(waveform, lengths), strict=True):
        torch.testing.assert_close(found, expected, atol=EXACT, rtol=0)
    log_mel, log_mel_lengths = served.log_mel(waveform, lengths)
    assert log_mel.shape == (2, NUM_STEPS * 4, 64)
    assert log_mel_lengths.tolist() == [NUM_STEPS * 4, 12]


@torch.no_grad()
def test_the_summary_is_means_and_deviations_of_all_that_was_heard_by_loudness(
    encoder: SoundEncoder, waveform: Tensor
) -> None:
    length = torch.tensor([NUM_STEPS * STEP])
    summary = encoder.summary(encoder.listen(waveform[:1], length)[1])[0]
    heard = encoder.log_mel(waveform[:1], length)[0]
    log_mel = encoder.normalise(heard)[0].double()
    loudness = (heard[0].double().logsumexp(dim=1) * 0.25).exp()
    weights = (
        loudness.reshape(NUM_STEPS, 4).mean(dim=1, keepdim=True).expand(-1, 4).flatten()
    )  # of a step's frames alike
    weights = (weights / weights.sum()).unsqueeze(1)

    spectral = summary[encoder.learned_dimension : -encoder.prosody.dimension]
    mean = (weights * log_mel).sum(dim=0)
    torch.testing.assert_close(spectral[:64], mean, atol=EXACT, rtol=0)
    variance = (weights * (log_mel - mean).square()).sum(dim=0)
    torch.testing.assert_close(spectral[64:128], (variance + 0.01).sqrt(), atol=EXACT, rtol=0)
    cepstra = (log_mel - mean) @ encoder.statistics.cosines.double()
    covariances = ((weights * cepstra).T @ cepstra)[tuple(encoder.statistics.pairs)]
    torch.testing.assert_close(spectral[256:466], covariances, atol=EXACT, rtol=0)


@torch.no_grad()
def test_the_course_tells_where_in_the_sound_a_value_is_high() -> None:
    """Of a value that follows a polynomial, its own part is 1 and the others' nothing, whatever is added to all."""
    statistics = SoundStatistics(size=1, context=6, frames_per_step=4)
    num_steps = 500
    places = (torch.arange(num_steps, dtype=torch.float64) + 0.5) / num_steps
    powers = places ** torch.arange(5).unsqueeze(1)
    for degree in range(1, 5):
        values = torch.zeros(1, num_steps, statistics.num_values)
        values[0, :, 1] = legendre(4)[degree - 1] @ powers + 7.0  # the upper hidden state
        found = torch.zeros(1, statistics.moments.size, dtype=torch.float64)
        for part in values.split(180, dim=1):
            weights = torch.full((1, part.shape[1]), 0.4, dtype=torch.float64)
            found = statistics.add(found, part, weights, torch.tensor([part.shape[1]]))
        course = statistics.describe(found)[0, 4:8]
        torch.testing.assert_close(course, torch.eye(4, dtype=torch.float64)[degree - 1], atol=1e-3, rtol=0)  # of steps


@torch.no_grad()
def test_what_is_added_to_all_steps_alike_is_soon_forgotten(encoder: SoundEncoder) -> None:
    torch.manual_seed(0)
    statistics, frames = encoder.statistics, torch.randn(1, 6 + 4 * 200, 64)
    other = frames + torch.randn(64)  # another microphone
    nothing = torch.zeros(1, statistics.moments.size, dtype=torch.float64)
    weights = torch.ones(1, 200, dtype=torch.float64)
    one, two = (encoder.embed(x, statistics.centres(nothing, x, weights))[0] for x in (frames, other))

    apart = (one - two).norm(dim=1) / one.norm(dim=1)
    assert apart[-1] < 0.02 < 0.1 < apart[0]


@torch.no_grad()
def test_components_are_uncorrelated_and_about_one_long() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(400, 3, dtype=torch.float64) @ torch.randn(3, 8, dtype=torch.float64) + 5.0
    vectors = torch.cat((vectors, torch.full((400, 1), 2.0, dtype=torch.float64)), dim=1)
    components = Components(9, 5)
    components.fit(vectors)
    found = components(vectors)

    torch.testing.assert_close(found.mean(dim=0), torch.zeros(5), atol=1e-3, rtol=0)
    expected = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])) / 5  # of three things only
    torch.testing.assert_close(torch.cov(found.T, correction=0), expected, atol=1e-3, rtol=0)
    odd = vectors[:1].clone()
    odd[0, 0] = 1e9
    assert components(odd).norm() < 20


@torch.no_grad()
def test_an_hour_of_silence_stays_finite_and_after_it_sound_still_counts(
    encoder: SoundEncoder, waveform: Tensor
) -> None:
    _, state = encoder.step(torch.zeros(1, 50 * STEP), torch.tensor([50 * STEP]), encoder.initial_state(1, 0, 0))
    silent = encoder.clip(state)
    assert silent.isfinite().all()
    _, state = encoder.step(waveform[:1], torch.tensor([waveform.shape[1]]), state)
    assert (encoder.clip(state) - silent).norm() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("cell", CELLS)
def test_training_runs_the_recurrence_that_is_served(cell: Cell) -> None:
    torch.manual_seed(0)
    recurrent, x = Recurrent(cell, 5, 7), torch.randn(2, 9, 5)
    hidden, _ = recurrent(x, torch.tensor([9, 9]), torch.zeros(2, recurrent.state_size))
    torch.testing.assert_close(run_whole(recurrent, x), hidden, atol=EXACT, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("cell", CELLS)
def test_the_decoder_begins_at_the_end_and_sees_no_step_before_it_has_given_it(cell: Cell) -> None:
    torch.manual_seed(0)
    decoder = SoundDecoder(cell, bottleneck=4, size=6, step_size=3, teacher_dropout=0.0)
    bottleneck, steps, lengths = torch.randn(1, 4), torch.randn(1, 5, 3), torch.tensor([4])
    found = decoder(bottleneck, steps, lengths)

    changed = steps.clone()
    changed[0, 1] += 1
    other = decoder(bottleneck, changed, lengths)
    assert torch.equal(found[0, 1:4], other[0, 1:4])  # given before step 1 is told
    assert (found[0, 0] != other[0, 0]).all()
