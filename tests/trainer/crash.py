"""A job that goes wrong. Imports nothing heavy: worker processes import it against their deadline."""

import os
import signal
import time


def crash(how: str) -> None:
    """Ends as asked: `killed`, `hung` or out of `memory`; else well."""
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hung":
        time.sleep(60)
    if how == "memory":
        bytearray(2**30)
