"""API keys: hashed, several, limited, read again when the file changes."""

import os
from pathlib import Path

import pytest

from app.api.keys import ApiKey, KeyFileRejected, KeyRing, Share, make_key
from app.errors import Forbidden, KeyExhausted, KeyRequired


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def write_keys(file: Path, *names: str, limits: str = "") -> list[str]:
    """Makes a key for each name, with `limits` as further lines of its entry."""
    made = [make_key(name) for name in names]
    file.write_text("".join(entry + limits for _, entry in made))
    return [key for key, _ in made]


def test_every_key_is_another_and_its_file_has_only_the_hash(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    first, second = write_keys(file, "lab", "lab")
    assert first != second
    assert len(first) > 40
    assert first not in file.read_text()
    ring = KeyRing(file)
    for presented in (first, second):
        key, share = ring.find(presented, "/classify")
        assert (key.name, share.name) == ("lab", "lab")


@pytest.mark.parametrize("presented", [None, "", "af_guess", "é"])
def test_who_has_none_of_the_keys_is_refused(tmp_path: Path, presented: str | None) -> None:
    write_keys(tmp_path / "keys.toml", "lab")
    with pytest.raises(KeyRequired):
        KeyRing(tmp_path / "keys.toml").find(presented, "/classify")


def test_the_hash_is_no_key(tmp_path: Path) -> None:
    _, entry = make_key("lab")
    (tmp_path / "keys.toml").write_text(entry)
    with pytest.raises(KeyRequired):
        KeyRing(tmp_path / "keys.toml").find(entry.split('"')[3], "/classify")


def test_a_key_may_be_for_some_paths(tmp_path: Path) -> None:
    (key,) = write_keys(tmp_path / "keys.toml", "camera", limits='paths = ["/stream", "/models"]\n')
    ring = KeyRing(tmp_path / "keys.toml")
    for path in ("/stream", "/stream/steps", "/models/actions"):
        ring.find(key, path)
    for path in ("/streams", "/classify", "/"):
        with pytest.raises(Forbidden, match="/stream, /models"):
            ring.find(key, path)


def test_requests_at_once() -> None:
    key, share = ApiKey(name="a", sha256="0" * 64, max_requests=2), Share("a", Clock())
    with share.request(key), share.request(key), pytest.raises(KeyExhausted):
        spend(share, key)
    spend(share, key)
    assert share.num_requests == 0


def test_requests_a_second() -> None:
    clock, key = Clock(), ApiKey(name="a", sha256="0" * 64, requests_per_second=0.5)
    share = Share("a", clock)
    spend(share, key)
    with pytest.raises(KeyExhausted) as refused:
        spend(share, key)
    assert refused.value.retry_after_seconds == 2
    clock.seconds = 1.9
    with pytest.raises(KeyExhausted):
        spend(share, key)
    clock.seconds = 2.0
    spend(share, key)
    clock.seconds = 1000.0  # what was not used does not add up
    spend(share, key)
    with pytest.raises(KeyExhausted):
        spend(share, key)


def test_keys_change_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, clock = tmp_path / "keys.toml", Clock()
    (old,) = write_keys(file, "old")
    ring = KeyRing(file, clock)
    ring.find(old, "/")
    replacement = tmp_path / "new.toml"
    (new,) = write_keys(replacement, "new")
    os.replace(replacement, file)  # noqa: PTH105
    ring.find(old, "/")  # it is not looked at every time
    clock.seconds += 1
    ring.find(new, "/")
    with pytest.raises(KeyRequired):
        ring.find(old, "/")

    file.write_text("[[key]]\nname = 1\n")
    clock.seconds += 1
    ring.find(new, "/")
    file.unlink()
    clock.seconds += 1
    ring.find(new, "/")
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


@pytest.mark.parametrize(
    "text",
    ["", "key = []", "not toml", '[[key]]\nname = "a"\nsha256 = "xyz"', '[[key]]\nname = "a b"\nsha256 = "' + "0" * 64],
)
def test_a_wrong_file_stops_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(KeyFileRejected, match=r"keys\.toml"):
        KeyRing(tmp_path / "keys.toml")
    with pytest.raises(KeyFileRejected, match="No such file"):
        KeyRing(tmp_path / "none.toml")


def spend(share: Share, key: ApiKey) -> None:
    with share.request(key):
        pass
