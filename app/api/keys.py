"""API keys: who may use the service, and how much of it each may have.

The file is TOML with one `[[key]]` for each, which `python -m app.api.keys NAME >> FILE` adds. It has only the SHA-256
of a key: keys are 256 random bits, which nobody can guess, so that a slow hash would add nothing.
"""

import argparse
import hashlib
import hmac
import logging
import math
import secrets
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import Forbidden, KeyExhausted, KeyRequired

PREFIX = "af_"  # says to people, and to scanners of leaked secrets, what it is
LOOK_SECONDS = 1.0  # how soon a changed file is noticed

logger = logging.getLogger("afterframe.keys")


class KeyFileRejected(ValueError):
    """The file of keys is missing or wrong. At the start that is for the operator to mend."""


class ApiKey(BaseModel):
    """One key of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """In the log. Several keys may have one, and share its limits: an old one and the one that replaces it."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    requests_per_second: float | None = Field(default=None, gt=0)
    """On average; a second's worth, and at least one, may come at once."""
    max_requests: int | None = Field(default=None, ge=1)
    """Requests and streams at once."""
    paths: tuple[Annotated[str, Field(pattern="^/")], ...] = ()
    """What it may ask for, with all below; empty: everything."""


class _KeyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    key: tuple[ApiKey, ...] = Field(min_length=1)


def make_key(name: str) -> tuple[str, str]:
    """A new key, and what the file says of it."""
    key = PREFIX + secrets.token_urlsafe(32)
    entry = ApiKey(name=name, sha256=hashlib.sha256(key.encode()).hexdigest())
    return key, f'[[key]]\nname = "{entry.name}"\nsha256 = "{entry.sha256}"\n'


class Share:
    """What the holder of one name has used of its limits."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.num_requests = 0
        self._clock = clock
        self._credit = math.inf  # requests that may come at once
        self._since = clock()

    @contextmanager
    def request(self, key: ApiKey) -> Iterator[None]:
        """While one request or stream is answered. Raises KeyExhausted over a limit of `key`."""
        if key.max_requests is not None and self.num_requests >= key.max_requests:
            raise KeyExhausted(f"This key allows {key.max_requests} requests at once.", 1)
        if key.requests_per_second is not None:
            self._spend(key.requests_per_second)
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1

    def _spend(self, rate: float) -> None:
        now = self._clock()
        self._credit = min(max(1.0, rate), self._credit + (now - self._since) * rate)
        self._since = now
        if self._credit < 1:
            wait = math.ceil((1 - self._credit) / rate)
            raise KeyExhausted(f"This key allows {rate:g} requests a second; come back in {wait} s.", wait)
        self._credit -= 1


class KeyRing:
    """The keys of one file, read again when it changes."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises KeyFileRejected; later that is logged, and the keys before hold on."""
        self._file = file
        self._clock = clock
        self._stamp = self._look()
        self._keys = self._read()
        self._shares: dict[str, Share] = {}
        self._looked = clock()

    def find(self, presented: str | None, path: str) -> tuple[ApiKey, Share]:
        """The key that was presented for `path`, and what its holder has used. Raises KeyRequired or Forbidden."""
        self._refresh()
        if not presented:
            raise KeyRequired("Send your API key in the header Authorization, as Bearer and the key, or in X-API-Key.")
        digest = hashlib.sha256(presented.encode()).hexdigest()
        found = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        if not found:
            raise KeyRequired("The service does not know this API key.")
        key = found[0]
        if key.paths and not any(
            path == allowed or path.startswith(allowed.rstrip("/") + "/") for allowed in key.paths
        ):
            raise Forbidden(f"This key is only for {', '.join(key.paths)}.")
        return key, self._shares.setdefault(key.name, Share(key.name, self._clock))

    def _refresh(self) -> None:
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._keys = self._read()
        except KeyFileRejected as error:
            logger.error("the API keys could not be read again, so those before still hold: %s", error)
        else:
            logger.info("the API keys have been read again: %d of them", len(self._keys))

    def _look(self) -> tuple[int, int, int]:
        """What changes when the file does, also where a link is pointed at another."""
        try:
            status = self._file.stat()
        except OSError as error:
            raise KeyFileRejected(f"{self._file}: {error.strerror}") from error
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _read(self) -> tuple[ApiKey, ...]:
        try:
            return _KeyFile.model_validate(tomllib.loads(self._file.read_text(encoding="utf-8"))).key
        except OSError as error:
            raise KeyFileRejected(f"{self._file}: {error.strerror}") from error
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
            raise KeyFileRejected(f"{self._file}: {wrong}") from error
        except ValueError as error:  # TOML or UTF-8 that is none
            raise KeyFileRejected(f"{self._file}: {error}") from error


def main() -> None:
    """Makes a key for the holder named on the command line: it goes to stderr, its entry for the file to stdout."""
    parser = argparse.ArgumentParser(prog="python -m app.api.keys", description=main.__doc__)
    parser.add_argument("name", help="letters, digits, dots, dashes and underscores")
    try:
        key, entry = make_key(parser.parse_args().name)
    except ValidationError:
        parser.error("a name has 64 letters, digits, dots, dashes and underscores at most")
    sys.stderr.write(f"{key}\n")
    sys.stdout.write(entry)


if __name__ == "__main__":
    main()
