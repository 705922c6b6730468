"""Remembers when each Job was first seen to have ended, by the operator's own clock. Does no I/O."""

from datetime import datetime

from ftm_operator.resources.metadata import Manifest

MOST_REMEMBERED = 4096
"""Jobs; of one that is forgotten, the delay before its next attempt begins anew."""


class FirstSeen:
    """The first sight of every Job that has ended."""

    def __init__(self) -> None:
        self._times: dict[str, datetime] = {}

    def of(self, job: Manifest, now: datetime) -> datetime:
        """Returns when it was; that is now, if it was never asked for before."""
        seen = self._times.setdefault(job["metadata"]["uid"], now)
        if len(self._times) > MOST_REMEMBERED:
            self._times.pop(next(iter(self._times)))
        return seen
