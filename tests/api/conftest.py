from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import RunningServer, running_server
from tests.streaming import KEYS, MAX_MESSAGE_BYTES


@pytest.fixture(scope="session")
def live(store: Path) -> Iterator[RunningServer]:
    """A server with room for few streams, that loses patience soon."""
    few = {"max_sessions": 4, "max_live_decoders": 1, "session_resume_seconds": 3}
    with running_server(store, max_message_bytes=MAX_MESSAGE_BYTES, state_keys=KEYS, **few) as running:
        yield running
