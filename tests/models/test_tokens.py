import re
from pathlib import Path

import numpy as np
import pytest
import torch

from app.errors import InvalidStateToken, StateMismatch, StateTooLarge
from app.models.store import ServedModel, load_version
from app.models.tokens import StateTokens, StreamPoint
from tests.tiny_models import write_version

KEY, OTHER_KEY = "k" * 32, "o" * 32
HOUR = 3600.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ServedModel]:
    store = tmp_path_factory.mktemp("model_store")
    return {
        "first": load_version(write_version(store, "tiny", "1")),
        "second": load_version(write_version(store, "tiny", "2", seed=1)),
        "other": load_version(write_version(store, "other", "1")),
    }


@pytest.fixture
def tokens() -> StateTokens:
    return StateTokens([KEY], 2**20, HOUR)


def make_point(size: int = 12) -> StreamPoint:
    generator = torch.Generator().manual_seed(0)
    return StreamPoint(
        sequence=7,
        seconds=1 / 3,
        state=torch.randn(size, generator=generator),
        memory=np.random.default_rng(0).random(9),
        tail=np.random.default_rng(1).random(5).astype(np.float32),
        height=24,
        width=32,
    )


def test_what_is_read_is_what_was_issued_to_the_last_bit(tokens, models):
    point = make_point()
    read = tokens.read(tokens.issue(models["first"], point))
    assert (read.model, read.version, read.digest) == ("tiny", "1", models["first"].digest)
    assert torch.equal(read.point.state, point.state)
    assert np.array_equal(read.point.memory, point.memory)
    assert np.array_equal(read.point.tail, point.tail)
    assert (read.point.sequence, read.point.seconds) == (7, 1 / 3)
    assert (read.point.height, read.point.width) == (24, 32)
    read.check_fits(models["first"])


def test_every_changed_byte_is_noticed(tokens, models):
    token = tokens.issue(models["first"], make_point(2))
    for at in range(len(token)):
        forged = bytearray(token)
        forged[at] ^= 1
        with pytest.raises(InvalidStateToken):
            tokens.read(bytes(forged))


@pytest.mark.parametrize("token", [b"", b"x", b"x" * 32, b"x" * 100])
def test_what_is_no_token_is_refused(tokens, token):
    with pytest.raises(InvalidStateToken, match="not signed by this service"):
        tokens.read(token)


def test_cut_and_lengthened_tokens_are_refused(tokens, models):
    token = tokens.issue(models["first"], make_point())
    for wrong in (token[:-1], token[: len(token) // 2], token + b"\0"):
        with pytest.raises(InvalidStateToken):
            tokens.read(wrong)


def test_keys_rotate(models):
    old = StateTokens([OTHER_KEY], 2**20, HOUR).issue(models["first"], make_point())
    both = StateTokens([KEY, OTHER_KEY], 2**20, HOUR)
    assert both.read(old).point.sequence == 7
    new = both.issue(models["first"], make_point())
    assert StateTokens([KEY], 2**20, HOUR).read(new).point.sequence == 7  # the first key signs
    with pytest.raises(InvalidStateToken):
        StateTokens([KEY], 2**20, HOUR).read(old)


def test_without_keys_each_process_has_its_own(models, caplog):
    first, second = (StateTokens([], 2**20, HOUR) for _ in range(2))
    assert "this process only" in caplog.text
    token = first.issue(models["first"], make_point())
    assert first.read(token).point.sequence == 7
    with pytest.raises(InvalidStateToken):
        second.read(token)


def test_tokens_expire(models):
    token = StateTokens([KEY], 2**20, lifetime_seconds=0).issue(models["first"], make_point())
    with pytest.raises(InvalidStateToken, match="expired"):
        StateTokens([KEY], 2**20, HOUR).read(token)


def test_the_size_is_bounded_both_ways(models):
    token = StateTokens([KEY], 2**20, HOUR).issue(models["first"], make_point(300))
    small = StateTokens([KEY], 1024, HOUR)
    with pytest.raises(StateTooLarge, match=f"{len(token)} bytes; the limit is 1024"):
        small.read(token)
    with pytest.raises(StateTooLarge, match="the limit is 1024"):
        small.issue(models["first"], make_point(300))


@pytest.mark.parametrize("other", ["second", "other"])
def test_the_state_of_another_model_says_what_it_fits(tokens, models, other):
    token = tokens.read(tokens.issue(models["first"], make_point()))
    name, version = models[other].manifest.name, models[other].manifest.version
    expected = rf"to model tiny version 1 \(.*\), not to {re.escape(name)} version {version}"
    with pytest.raises(StateMismatch, match=expected):
        token.check_fits(models[other])


def test_another_file_under_the_same_name_and_version_is_another_model(tokens, models, tmp_path: Path):
    token = tokens.read(tokens.issue(models["first"], make_point()))
    with pytest.raises(StateMismatch):
        token.check_fits(load_version(write_version(tmp_path, "tiny", "1", seed=5)))
