"""Moving MNIST as the benchmark draws it."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from trainer.data.moving_mnist import DIGIT_SIDE, SIDE, bounce, draw_sequence, read_digits, read_sequences

DATA = Path(__file__).parents[2].parent / "shared/data"


def test_digits_come_out_of_an_idx_file(tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 2051, 3, 28, 28) + digits.tobytes()))
    assert np.array_equal(read_digits(path), digits)
    path.write_bytes(gzip.compress(struct.pack(">4I", 2049, 3, 28, 28) + digits.tobytes()))
    with pytest.raises(ValueError, match=r"images\.gz has no digits"):
        read_digits(path)


def test_sequences_come_out_of_an_npz_file(tmp_path: Path) -> None:
    sequences = np.random.default_rng(0).integers(0, 256, (2, 5, SIDE, SIDE), dtype=np.uint8)
    path = tmp_path / "moving.npz"
    np.savez(path, sequences=sequences)
    assert read_sequences(path).shape == (2, 5, SIDE, SIDE, 3)
    assert (read_sequences(path) == sequences[..., None]).all()
    np.savez(path, others=sequences)
    with pytest.raises(ValueError, match="no sequences"):
        read_sequences(path)


def test_a_path_goes_straight_at_one_speed_and_turns_at_walls() -> None:
    for seed in range(20):
        places = bounce(60, np.random.default_rng(seed)).astype(float)
        assert places.min() >= 0
        assert places.max() <= SIDE - DIGIT_SIDE
        for along in places.T:
            inside = (along > 4) & (along < SIDE - DIGIT_SIDE - 4)
            steps = np.abs(np.diff(along))[inside[:-1] & inside[1:]]
            assert np.ptp(steps) <= 1  # whole pixels of a constant speed
        speeds = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert speeds.max() <= 0.1 * (SIDE - DIGIT_SIDE) + 2**0.5  # 3.6 pixels, and what rounding adds


def test_where_digits_overlap_the_brighter_one_is_seen() -> None:
    digits = np.full((1, 28, 28), 100, np.uint8)
    frames = draw_sequence(digits, 30, np.random.default_rng(3))
    assert set(np.unique(frames)) == {0, 100}
    covered = (frames > 0).sum(axis=(1, 2))
    assert covered.max() <= 2 * 28 * 28
    assert covered.min() >= 28 * 28


def test_the_same_seed_draws_the_same_sequence() -> None:
    digits = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    first, again = (draw_sequence(digits, 6, np.random.default_rng(1)) for _ in range(2))
    other = draw_sequence(digits, 6, np.random.default_rng(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.skipif(not (DATA / "moving_mnist").exists(), reason="needs the shared data")
def test_the_fixed_sequences_are_of_the_same_process() -> None:
    fixed = read_sequences(DATA / "moving_mnist/moving_mnist_dev500.npz")[..., 0] / 255.0
    digits = read_digits(DATA / "mnist/train-images-idx3-ubyte.gz")
    drawn = np.stack([draw_sequence(digits, 20, np.random.default_rng(seed)) for seed in range(500)]) / 255.0
    assert fixed.shape == drawn.shape
    for statistic in (_copy_error, _brightness):
        # Standard errors of 500 sequences are 2 % of either; the digits are other people's besides.
        assert statistic(drawn) == pytest.approx(statistic(fixed), rel=0.1)


def _copy_error(sequences: np.ndarray) -> float:
    return float(((sequences[:, 9:10] - sequences[:, 10:]) ** 2).sum(axis=(2, 3)).mean())


def _brightness(sequences: np.ndarray) -> float:
    return float((sequences[:, 10:] ** 2).sum(axis=(2, 3)).mean())
