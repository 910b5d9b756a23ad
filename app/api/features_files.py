"""Features as files: npz, CSV as openSMILE's Python package writes it, Parquet."""

import csv
import io
from collections.abc import Iterator

import numpy as np

from app.pipelines.features import Features, Rows

SECONDS_PER_DAY = 24 * 60 * 60


def as_npz(answer: Features) -> bytes:
    """Arrays by name; those that were not asked for are not there."""
    arrays: dict[str, object] = {
        "clip": answer.clip.features[0],
        "start_seconds": answer.clip.starts[0],
        "end_seconds": answer.clip.ends[0],
        "hop_seconds": answer.output.hop_seconds,
        **answer.model.manifest.origin,
    }
    for name, rows in (("steps", answer.steps), ("windows", answer.windows)):
        if rows is not None:
            arrays |= {name: rows.features, f"{name}_starts": rows.starts, f"{name}_ends": rows.ends}
    if answer.log_mel is not None:
        arrays |= {"log_mel": answer.log_mel, "log_mel_hop_seconds": answer.output.log_mel_hop_seconds}
    with io.BytesIO() as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # scalars and str become arrays
        return file.getvalue()


def as_csv(answer: Features, file_name: str) -> bytes:
    """`file,start,end,` and the features of the level asked for, a row each; times as pandas writes a timedelta."""
    rows = _rows(answer)
    with io.StringIO(newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["file", "start", "end", *_columns(rows)])
        starts, ends = timedeltas(rows.starts), timedeltas(rows.ends)
        for start, end, vector in zip(starts, ends, rows.features, strict=True):
            writer.writerow([file_name, start, end, *(f"{value:.9g}" for value in vector)])  # float32, to the last bit
        return file.getvalue().encode()


def as_parquet(answer: Features, file_name: str) -> bytes:
    """The rows of `as_csv` with `start` and `end` as durations, and the model in the file's metadata."""
    # On first use: importing it takes 0.2 s, which every start would pay for.
    import pyarrow
    from pyarrow import parquet

    rows = _rows(answer)
    names = pyarrow.array([file_name] * len(rows.starts)).dictionary_encode()
    starts, ends = (pyarrow.array(_microseconds(times), pyarrow.duration("us")) for times in (rows.starts, rows.ends))
    features = [pyarrow.array(column) for column in np.ascontiguousarray(rows.features.T)]
    table = pyarrow.table([names, starts, ends, *features], names=["file", "start", "end", *_columns(rows)])
    with io.BytesIO() as file:
        metadata = {**(table.schema.metadata or {}), **answer.model.manifest.origin}
        parquet.write_table(table.replace_schema_metadata(metadata), file)
        return file.getvalue()


def timedeltas(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Iterator[str]:
    """`0 days 00:00:01.250000`, or `0 days` where none of them has more than days: as pandas writes a column."""
    microseconds = _microseconds(seconds)
    is_short = not np.any(microseconds % (SECONDS_PER_DAY * 1_000_000))
    has_fraction = bool(np.any(microseconds % 1_000_000))
    for total in microseconds.tolist():
        days, rest = divmod(total, SECONDS_PER_DAY * 1_000_000)
        if is_short:
            yield f"{days} days"
            continue
        whole, fraction = divmod(rest, 1_000_000)
        clock = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
        sign = "+" if days < 0 else ""
        yield f"{days} days {sign}{clock}.{fraction:06}" if has_fraction else f"{days} days {sign}{clock}"


def _microseconds(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.round(seconds * 1_000_000).astype(np.int64)


def _rows(answer: Features) -> Rows:
    return answer.steps or answer.windows or answer.clip


def _columns(rows: Rows) -> list[str]:
    return [f"feature_{number}" for number in range(rows.features.shape[1])]
