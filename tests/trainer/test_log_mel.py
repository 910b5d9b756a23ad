import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.networks.log_mel import HOP, NUM_MELS, SAMPLE_RATE, WINDOW, LogMel, mel_centres, mel_position

EXACT = 1e-5  # the contract's; in double precision it is the last step, to float32, that differs


def make_waveform(num_samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A tone that rises, in noise."""
    seconds = np.arange(num_samples) / SAMPLE_RATE
    noise = np.random.default_rng(seed).standard_normal(num_samples)
    return (0.3 * np.sin(2 * np.pi * (200 + 800 * seconds) * seconds) + 0.01 * noise).astype(np.float32)


def reference(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T, 64) by the textbook: windows as a loop, the HTK formula in its own constants, a plain FFT."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    mel = 2595 * np.log10(1 + np.array([60.0, 7600.0]) / 700)
    edges = 700 * (10 ** (np.linspace(*mel, NUM_MELS + 2) / 2595) - 1)
    bins = np.arange(257) * SAMPLE_RATE / 512
    filters = np.array([np.interp(bins, edges[m : m + 3], [0, 1, 0], left=0, right=0) for m in range(NUM_MELS)])
    before = np.concatenate([np.zeros(WINDOW - HOP), waveform.astype(np.float64)])
    frames = [before[start : start + WINDOW] for start in range(0, len(before) - WINDOW + 1, HOP)]
    power = np.abs(np.fft.rfft(np.array(frames) * window, 512)) ** 2
    return np.log(power @ filters.T + 1e-8)


@pytest.fixture(scope="module")
def front_end() -> LogMel:
    return LogMel()


def test_it_is_what_the_textbook_says(front_end: LogMel) -> None:
    waveform = make_waveform(50 * HOP)
    found, lengths = front_end.whole(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))

    expected = reference(waveform)
    assert found.shape == (1, 50, NUM_MELS)
    assert lengths.tolist() == [50]
    np.testing.assert_allclose(found[0].numpy(), expected, atol=EXACT)


def test_a_tone_is_loudest_in_the_mel_it_belongs_to(front_end: LogMel) -> None:
    for hertz in (150.0, 440.0, 3000.0):
        tone = torch.sin(2 * torch.pi * hertz * torch.arange(20 * HOP) / SAMPLE_RATE)
        found, _ = front_end.whole(tone[None], torch.tensor([len(tone)]))
        assert abs(float(mel_position(torch.tensor([hertz]))) - int(found[0, 10].argmax())) <= 1


def test_positions_and_centres_agree() -> None:
    torch.testing.assert_close(mel_position(mel_centres()), torch.arange(NUM_MELS, dtype=torch.float64))


def test_any_split_equals_one_call(front_end: LogMel) -> None:
    waveform = torch.from_numpy(make_waveform(30 * HOP))[None]
    whole, _ = front_end.whole(waveform, torch.tensor([30 * HOP]))

    heard = torch.nn.functional.pad(waveform, [front_end.overlap, 0])
    parts = [front_end(heard[:, start : start + front_end.overlap + HOP]) for start in range(0, 30 * HOP, HOP)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=EXACT, rtol=0)


def test_what_lies_beyond_a_length_has_no_effect(front_end: LogMel) -> None:
    waveform = torch.from_numpy(make_waveform(10 * HOP))[None]
    length = 7 * HOP - 50
    padded, lengths = front_end.whole(waveform, torch.tensor([length]))
    alone, _ = front_end.whole(waveform[:, :length], torch.tensor([length]))

    assert lengths.tolist() == [7]
    torch.testing.assert_close(padded[:, :7], alone, atol=EXACT, rtol=0)
    assert (waveform[:, length:] != 0).all()


def test_silence_is_finite_and_the_floor(front_end: LogMel) -> None:
    found, _ = front_end.whole(torch.zeros(1, 5 * HOP), torch.tensor([5 * HOP]))
    torch.testing.assert_close(found, torch.full_like(found, float(np.log(front_end.floor))))
