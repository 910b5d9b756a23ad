"""State tokens: where a stream stands, signed, for the client to keep.

A recurrent network needs the past only as its state, so whoever brings the state back goes on from there: on another
replica, after a restart, twice from the same point (fork), or from an earlier one (rewind). The server keeps nothing.

    token   = HMAC-SHA256 of the rest (32 bytes) ++ format (1) ++ length of the header (4) ++ header ++ arrays
    header  = JSON: model, version, digest, sequence, seconds, expiry and the sizes of the arrays
    arrays  = state (S,) float32 ++ memory (M,) float64 ++ tail (N,) float32, little-endian

The client may read it (it is not encrypted) but cannot change it.
"""

import hashlib
import hmac
import json
import logging
import secrets
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.errors import InvalidStateToken, StateMismatch, StateTooLarge
from app.models.store import ServedModel

FORMAT = 1
_PREFIX = struct.Struct("<BI")  # format, length of the header
_MAC_BYTES = hashlib.sha256().digest_size
_PURPOSE = b"afterframe state token\0"  # the keys may sign other things one day
_RANDOM_KEY_BYTES = 32

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class StreamPoint:
    """A moment between two steps of a stream: all that is needed to go on from there."""

    sequence: int
    """Steps taken so far."""
    seconds: float
    """When the next step begins, in the stream's time."""
    state: torch.Tensor
    """(S,) float32 of the model."""
    memory: NDArray[np.float64]
    """(M,) of what follows the model: smoothing, the segment that is open, the last judgement."""
    tail: NDArray[np.float32]
    """(N,) sound that has come but makes no whole step yet."""
    height: int = 0
    """Of the frames that the state was made of; 0 before the first, and for sound."""
    width: int = 0


@dataclass(frozen=True, slots=True)
class StateToken:
    """A token whose signature held and whose time has not passed."""

    model: str
    version: str
    digest: str
    point: StreamPoint

    def check_fits(self, model: ServedModel) -> None:
        """Raises StateMismatch where the state is another model's."""
        manifest = model.manifest
        if (self.model, self.version, self.digest) != (manifest.name, manifest.version, model.digest):
            raise StateMismatch(
                f"The state belongs to model {self.model} version {self.version} ({self.digest[:12]}…), not to "
                f"{manifest.name} version {manifest.version} ({model.digest[:12]}…); no other model can take it."
            )


class StateTokens:
    """Issues tokens and reads them."""

    def __init__(self, keys: Sequence[str], max_state_bytes: int, lifetime_seconds: float) -> None:
        """The first of `keys` signs and all verify, so that keys can be changed while tokens are out.

        Without any, a key is drawn that ends with the process. `max_state_bytes`: of a whole token.
        """
        self.max_state_bytes = max_state_bytes
        self.lifetime_seconds = lifetime_seconds
        self._keys = [key.encode() for key in keys]
        if not self._keys:
            logger.warning("no AFTERFRAME_STATE_KEYS: state tokens hold for this process only")
            self._keys = [secrets.token_bytes(_RANDOM_KEY_BYTES)]

    def issue(self, model: ServedModel, point: StreamPoint) -> bytes:
        """The token for `point` of a stream of `model`; raises StateTooLarge."""
        arrays = (
            point.state.to("cpu", torch.float32).numpy().astype("<f4").tobytes(),
            point.memory.astype("<f8").tobytes(),
            point.tail.astype("<f4").tobytes(),
        )
        header = json.dumps(
            {
                "model": model.manifest.name,
                "version": model.manifest.version,
                "digest": model.digest,
                "sequence": point.sequence,
                "seconds": point.seconds,
                "size": [point.height, point.width],
                "expires": time.time() + self.lifetime_seconds,
                "bytes": [len(array) for array in arrays],
            }
        ).encode()
        body = b"".join((_PREFIX.pack(FORMAT, len(header)), header, *arrays))
        if len(body) + _MAC_BYTES > self.max_state_bytes:
            raise StateTooLarge(
                f"The state of this stream takes {len(body) + _MAC_BYTES} bytes; the limit is {self.max_state_bytes}."
            )
        return _sign(self._keys[0], body) + body

    def read(self, token: bytes) -> StateToken:
        """What `token` says. Raises StateTooLarge, InvalidStateToken where it is forged, damaged or too old."""
        if len(token) > self.max_state_bytes:
            raise StateTooLarge(f"The state has {len(token)} bytes; the limit is {self.max_state_bytes}.")
        mac, body = token[:_MAC_BYTES], token[_MAC_BYTES:]
        # Every key is tried, whichever fits: how long it takes says nothing.
        if sum([hmac.compare_digest(_sign(key, body), mac) for key in self._keys]) == 0:
            raise InvalidStateToken("The state was not signed by this service: it is damaged, or its key is gone.")
        number, header_bytes = _PREFIX.unpack_from(body)
        if number != FORMAT:
            raise InvalidStateToken(f"The state has the format {number}; this service reads {FORMAT}.")
        arrays_at = _PREFIX.size + header_bytes
        header: dict[str, Any] = json.loads(body[_PREFIX.size : arrays_at])
        if time.time() >= header["expires"]:
            raise InvalidStateToken(f"The state has expired; a state is valid for {self.lifetime_seconds:g} s.")
        state, memory, tail = _split(body[arrays_at:], header["bytes"])
        height, width = header["size"]
        point = StreamPoint(
            sequence=header["sequence"],
            seconds=header["seconds"],
            state=torch.from_numpy(np.frombuffer(state, "<f4").astype(np.float32)),
            memory=np.frombuffer(memory, "<f8").astype(np.float64),
            tail=np.frombuffer(tail, "<f4").astype(np.float32),
            height=height,
            width=width,
        )
        return StateToken(header["model"], header["version"], header["digest"], point)


def _sign(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + body, "sha256")


def _split(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts
