from collections.abc import Iterator

import pytest
import torch

from app.models.precision import has_bfloat16
from app.models.store import list_versions
from bench.parts import CPU, time_parts
from bench.performance import STORE


@pytest.fixture
def threads() -> Iterator[None]:
    """What follows has as many as before."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.usefixtures("threads")
def test_bfloat16_is_timed_where_the_processor_has_it() -> None:
    found = time_parts(STORE / "actions" / list_versions(STORE, "actions")[-1])

    assert ("forward, as it is served in bfloat16" in found) == has_bfloat16(CPU)
    assert all(milliseconds > 0 for milliseconds in found.values())
