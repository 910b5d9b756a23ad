import math

import pytest
import torch
from torch import Tensor

from trainer.networks.prosody import Prosody, ProsodyMeasures

RATE = 16_000
STEP = 640
PITCH, VOICING, LOUDNESS, ALPHA, TILT, BREATH = range(6)


def voice(hertz: Tensor) -> Tensor:
    """Pitch of each sample (N,) -> a sound of ten harmonics, each half as strong as the one below: (1,N)."""
    phase = 2 * math.pi * (hertz.double() / RATE).cumsum(0)
    harmonics = torch.arange(1, 11).unsqueeze(1)
    return (0.3 * 0.5**harmonics * torch.sin(harmonics * phase)).sum(dim=0, keepdim=True).float()


def nepers(told: Tensor) -> float:
    """What is told of logarithms of power, in nepers of power."""
    return float(told) * ProsodyMeasures.nepers


def describe(sound: Tensor) -> dict[str, Tensor]:
    """What Prosody tells of a sound (1,N): mean (6,), deviation, skewness, course (4,6) and structure (lags,6)."""
    prosody = Prosody(STEP)
    sound = sound[:, : sound.shape[1] // STEP * STEP]
    num_steps = sound.shape[1] // STEP
    heard = torch.nn.functional.pad(sound, [prosody.overlap, 0])
    weights = torch.ones(1, num_steps, dtype=torch.float64)
    state = prosody.step(heard, torch.zeros(1, prosody.state_size), weights, torch.tensor([num_steps]))
    mean, deviation, skewness, *others = prosody.describe(state)[0].reshape(-1, 6)
    course, structure = torch.stack(others[:4]), torch.stack(others[4:])
    return {"mean": mean, "deviation": deviation, "skewness": skewness, "course": course, "structure": structure}


@pytest.mark.parametrize("hertz", [80.0, 123.0, 220.0, 480.0])
def test_the_pitch_of_a_voice(hertz: float) -> None:
    measures = ProsodyMeasures()(
        torch.nn.functional.pad(voice(torch.full((RATE,), hertz)), [ProsodyMeasures().overlap, 0])
    )
    settled = measures[0, 3:]
    torch.testing.assert_close(100 * 2 ** settled[:, PITCH], torch.full((47,), hertz), rtol=0.005, atol=0)
    assert settled[:, VOICING].min() > 0.95


def test_noise_and_silence_are_not_voiced() -> None:
    torch.manual_seed(0)
    measures = ProsodyMeasures()
    assert measures(0.1 * torch.randn(1, RATE + measures.overlap))[..., VOICING].mean() < 0.35
    silent = measures(torch.zeros(1, RATE + measures.overlap))
    assert silent[..., VOICING].max() == 0
    assert nepers(silent[..., LOUDNESS].max()) == pytest.approx(math.log(measures.floor) + 8, abs=1e-4)
    assert silent.isfinite().all()


def test_loudness_and_tilt() -> None:
    def told(hertz: float, amplitude: float) -> Tensor:
        sound = amplitude * torch.sin(2 * math.pi * hertz * torch.arange(RATE) / RATE)
        return describe(sound.unsqueeze(0))["mean"]

    low, loud, high = told(300.0, 0.05), told(300.0, 0.5), told(3000.0, 0.05)
    assert nepers(loud[LOUDNESS] - low[LOUDNESS]) == pytest.approx(math.log(100.0), abs=0.05)  # by power
    torch.testing.assert_close(loud[PITCH], low[PITCH], atol=1e-3, rtol=0)
    assert nepers(low[ALPHA]) > 5 > -5 > nepers(high[ALPHA])


def test_what_is_not_voiced_counts_for_nothing_in_the_pitch() -> None:
    torch.manual_seed(0)
    spoken = voice(torch.full((RATE,), 150.0))
    alone, among = (
        describe(spoken),
        describe(torch.cat((0.2 * torch.randn(1, RATE), spoken, torch.zeros(1, RATE)), dim=1)),
    )
    torch.testing.assert_close(among["mean"][PITCH], alone["mean"][PITCH], atol=0.02, rtol=0)
    assert among["mean"][VOICING] < 0.7 < alone["mean"][VOICING]


def test_the_course_of_the_pitch_says_whether_a_voice_rises() -> None:
    rising = voice(torch.linspace(120.0, 240.0, 2 * RATE))
    up, down = describe(rising)["course"][:, PITCH], describe(rising.flip(1))["course"][:, PITCH]
    assert up[0] > 0.2
    assert down[0] < -0.2
    assert up[0] > 5 * up[2].abs()  # steadily


def test_structure_functions_tell_a_slow_change_from_a_fast_one() -> None:
    times = torch.arange(3 * RATE) / RATE
    slow, fast = (describe(voice(200 * 2 ** (0.2 * torch.sin(2 * math.pi * rate * times)))) for rate in (0.8, 6.25))
    # Over 80 ms, half a period of the fast one, it moves from end to end; over 640 ms, four periods, not at all.
    at = Prosody.lags.index
    assert fast["structure"][at(4), PITCH] > 2 * slow["structure"][at(4), PITCH]
    assert slow["structure"][at(32), PITCH] > 2 * fast["structure"][at(32), PITCH]
    torch.testing.assert_close(fast["deviation"][PITCH], slow["deviation"][PITCH], atol=0.03, rtol=0)


def test_before_the_beginning_there_is_nothing_to_compare_with() -> None:
    """A short sound's long changes are no changes, not those from silence."""
    short = describe(voice(torch.full((5 * STEP,), 200.0)))
    assert short["structure"][-1].max() <= 0.04  # the root of the least variance


def test_skewness_says_on_which_side_the_rare_pitches_are() -> None:
    usual, rare = torch.full((2 * RATE,), 200.0), torch.full((RATE // 2,), 300.0)
    assert describe(voice(torch.cat((usual, rare))))["skewness"][PITCH] > 1
    assert describe(voice(torch.cat((usual, rare / 2.25))))["skewness"][PITCH] < -1


def test_a_breathy_voice_has_more_in_its_first_harmonic() -> None:
    hertz = torch.full((RATE,), 200.0)
    pure = 0.3 * torch.sin(2 * math.pi * 200 * torch.arange(RATE) / RATE).unsqueeze(0)
    breathy, bright = describe(voice(hertz) + pure)["mean"][BREATH], describe(voice(hertz))["mean"][BREATH]
    assert nepers(bright) == pytest.approx(2 * math.log(2), abs=0.2)  # half as strong: a quarter of the power
    assert nepers(breathy - bright) > 1
