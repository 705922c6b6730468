"""Tells whether the operator still does its work.

Not alive: full lists no longer succeed, a key has waited too long for a worker, or a watch has been silent about a
change that a full list found. A restart mends each of these.
"""

import time
from collections.abc import Callable

QUEUE_WAIT_SECONDS = 300.0
WATCH_GRACE_SECONDS = 60.0
RESYNCS_MISSED = 3


class Health:
    """The signs that the operator is alive, and the sentence that says which is missing."""

    def __init__(self, resync_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._resync_limit_seconds = RESYNCS_MISSED * resync_seconds + WATCH_GRACE_SECONDS
        self._last_resync = clock()
        self._silent_watches: dict[str, tuple[int, float]] = {}
        self.resynced = False
        self.queue_wait_seconds: Callable[[], float] = lambda: 0.0

    def resync_finished(self) -> None:
        self.resynced = True
        self._last_resync = self._clock()

    def watch_missed(self, kind: str, version: int) -> None:
        """Notes that a full list showed this version of an object, and that no watch had told of it."""
        self._silent_watches.setdefault(kind, (version, self._clock()))

    def watch_delivered(self, kind: str, version: int) -> None:
        silent = self._silent_watches.get(kind)
        if silent and version >= silent[0]:
            del self._silent_watches[kind]

    def watch_ended(self, kind: str) -> None:
        """Notes that the cluster no longer has this kind, so that its watch may be silent."""
        self._silent_watches.pop(kind, None)

    def problem(self) -> str | None:
        """Returns the fault in one sentence, or None when all is well."""
        now = self._clock()
        if (age := now - self._last_resync) > self._resync_limit_seconds:
            return f"no full list has succeeded for {age:.0f} s"
        if (wait := self.queue_wait_seconds()) > QUEUE_WAIT_SECONDS:
            return f"a resource has waited for a worker for {wait:.0f} s"
        for kind, (_, since) in self._silent_watches.items():
            if now - since > WATCH_GRACE_SECONDS:
                return f"the watch of {kind} missed a change and has been silent for {now - since:.0f} s"
        return None
