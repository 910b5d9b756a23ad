"""A job that goes wrong. Imports nothing heavy: worker processes import it against their deadline."""

import os
import signal
import time
from pathlib import Path


def crash(how: str) -> None:
    """Ends as asked: `killed`, `hung` or out of `memory`; else well."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hung":
        time.sleep(60)
    if how == "memory":
        bytearray(2**30)


def write_to_a_full_disk(what: object, digest: str, wanted: object, path: Path, partial: Path) -> None:
    """As far as there is room, which is not to the end."""
    partial.write_bytes(b"what there was room for")
    Path("/dev/full").write_bytes(bytes(2**20))


def fail(what: object, digest: str, wanted: object, path: Path, partial: Path) -> None:
    """After a line beside `path` that it was tried."""
    with path.with_name("tried").open("a") as file:
        file.write(f"{path}\n")
    raise OSError("no")
