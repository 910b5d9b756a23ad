"""Who may come in, by how much is being worked on and how fast that goes."""

import math
import time
from collections.abc import Callable

from app.errors import NotReady, Overloaded
from app.telemetry import Telemetry

SMOOTHING = 0.1  # weight of the newest answer in the mean time between two
NEWCOMER_SECONDS = 0.5  # an upload that takes no longer has cost nobody much


class Places:
    """Counts the uploads that arrive and those that are worked on.

    A place is held from the last byte of an upload to the end of its answer, so that a client which sends slowly holds
    none. Whoever would find no place, or wait for longer than `max_wait_seconds`, is refused before its body is read.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        max_requests: int,
        max_uploads: int,
        max_spool_bytes: int,
        max_wait_seconds: float,
        num_workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`max_uploads` may arrive at once, `max_spool_bytes` of them lie on disk; `num_workers` work at once."""
        self.max_requests = max_requests
        self.max_uploads = max_uploads
        self.max_spool_bytes = max_spool_bytes
        self.max_wait_seconds = max_wait_seconds
        self.num_workers = num_workers
        self.is_stopping = False
        self.num_held = 0
        self.seconds_each = 0.0
        """Mean time between two answers while all workers have something to do; 0: nothing has been answered yet."""
        self.arriving: set[Callable[[], None]] = set()
        """What ends each upload that is on its way."""
        self.spool_bytes = 0
        self.unwritten_bytes = 0
        """Of uploads, come and not yet on disk."""
        self._clock = clock
        self._since = clock()
        self._worked_seconds = 0.0  # since the last answer, as if all workers had shared what was to do
        telemetry.places.set(max_requests)
        telemetry.requests_in_flight.set_function(lambda: self.num_held)
        telemetry.uploads_arriving.set_function(lambda: len(self.arriving))
        telemetry.spool_bytes.set_function(lambda: self.spool_bytes)

    @property
    def wait_seconds(self) -> float:
        """Until all that is here now has been answered, at the rate measured."""
        return self.num_held * self.seconds_each

    def check_room(self) -> None:
        """Raises NotReady when the service is stopping, Overloaded where there is no room or the wait too long."""
        if self.is_stopping:
            raise NotReady
        if self.num_held >= self.max_requests:
            raise self._overloaded(f"All {self.max_requests} places are taken")
        if self.num_held >= self.num_workers and self.wait_seconds > self.max_wait_seconds:
            raise self._overloaded(f"The wait would be {self.wait_seconds:.0f} s, over {self.max_wait_seconds:g} s")
        if len(self.arriving) >= self.max_uploads:
            raise self._overloaded(f"{self.max_uploads} uploads are arriving, as many as may at once")

    def take(self, upload_seconds: float) -> None:
        """Holds a place for a complete upload, which took `upload_seconds`; `give_back` must follow.

        Raises Overloaded where there is none. For uploads that took long there are as many places again as for
        newcomers: they were let in when there was room, and much would be lost with them.
        """
        if self.num_held >= self.max_requests * (2 if upload_seconds > NEWCOMER_SECONDS else 1):
            raise self._overloaded(f"All {self.max_requests} places are taken")
        self._advance()
        self.num_held += 1

    def give_back(self) -> None:
        self._advance()
        self.num_held -= 1
        newest, self._worked_seconds = self._worked_seconds, 0.0
        self.seconds_each += (SMOOTHING if self.seconds_each else 1.0) * (newest - self.seconds_each)

    def hold_bytes(self, change: int) -> None:
        """Counts bytes of an upload on disk; raises Overloaded over the limit."""
        self.spool_bytes += change
        if change > 0 and self.spool_bytes > self.max_spool_bytes:
            raise self._overloaded("The disk space for uploads is taken")

    def stop(self) -> None:
        """Lets nobody in any more."""
        self.is_stopping = True

    def end_uploads(self) -> None:
        """Refuses what is still arriving."""
        for end in self.arriving:
            end()

    def _advance(self) -> None:
        now = self._clock()
        share = min(self.num_held, self.num_workers) / self.num_workers
        self._worked_seconds += (now - self._since) * share
        self._since = now

    def _overloaded(self, fact: str) -> Overloaded:
        wait = max(1, math.ceil(self.wait_seconds))
        return Overloaded(f"{fact}; come back in {wait} s.", wait)
