"""Features as JSON, however many there are: written in slices, so that others have their turn in between."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from pydantic_core import to_json

from app.api.schemas import rounded
from app.pipelines.features import Rows

NUMBERS_AT_ONCE = 8192
"""Written by one call, during which nothing else of Python runs: a millisecond, where two million take 0.3 s."""


def in_json(facts: BaseModel, **rows: Iterable[bytes] | None) -> bytes:
    """`facts` with the fields that `rows` names: arrays of what these hold, or null. They come last."""
    parts = [facts.model_dump_json(exclude=set(rows)).encode().removesuffix(b"}")]
    for name, elements in rows.items():
        parts += [f',"{name}":'.encode(), b"null" if elements is None else b"[" + b",".join(elements) + b"]"]
    return b"".join([*parts, b"}"])


def vectors_in_json(*parts: NDArray[np.float32]) -> Iterator[bytes]:
    """Elements of an array, some at a time: the rows of all `parts` (T, D)."""
    for vectors in parts:
        for some in _slices(vectors):
            yield _elements(rounded(vectors[some]))


def windows_in_json(rows: Rows) -> Iterator[bytes]:
    """Likewise, each with its beginning and end."""
    for some in _slices(rows.features):
        starts, ends, vectors = (rounded(values[some]) for values in (rows.starts, rows.ends, rows.features))
        yield _elements(
            [
                {"start_seconds": start, "end_seconds": end, "features": vector}
                for start, end, vector in zip(starts, ends, vectors, strict=True)
            ]
        )


def _slices(rows: NDArray[np.float32]) -> Iterator[slice]:
    length = max(1, NUMBERS_AT_ONCE // rows.shape[1])
    return (slice(first, first + length) for first in range(0, len(rows), length))


def _elements(elements: list[Any]) -> bytes:
    return to_json(elements)[1:-1]
