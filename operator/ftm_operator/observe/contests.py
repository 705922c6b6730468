"""Remembers the fields of children over which another manager would fight with us, so that neither goes on for ever.

An admission policy rewrites what we apply, so that a difference is there again at once: it is kept from then on.
Another controller may write back a moment later: after MOST_APPLIES of one field in PERIOD seconds it is left alone
until these have passed. Does no I/O; time comes in.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_APPLIES = 3
PERIOD = 600.0

Child = tuple[str, str, str]
"""Kind, namespace and name."""


@dataclass
class _Contest:
    spec_hash: str = ""
    kept: set[str] = field(default_factory=set)
    """Differences that an apply did not change."""
    applies: dict[str, list[float]] = field(default_factory=dict)
    """When each field was applied because it differed."""


class Contests:
    """The contested fields of all children."""

    def __init__(self) -> None:
        self._of: dict[Child, _Contest] = defaultdict(_Contest)

    def applied(self, child: Child, spec_hash: str, why: str, left: Iterable[str], now: float) -> list[str]:
        """Takes in an apply for the reason `why`, after which the differences `left` were still there.

        Returns the differences that are kept from now on and were not before: they are to be reported.
        """
        contest = self._of[child]
        if contest.spec_hash != spec_hash:
            contest = self._of[child] = _Contest(spec_hash)
        times = contest.applies.setdefault(_field(why), [])
        times[:] = [*(time for time in times if now - time < PERIOD), now]
        news = [difference for difference in left if difference not in contest.kept]
        contest.kept.update(news)
        if len(times) == MOST_APPLIES and why not in contest.kept:
            news.append(why)
        return news

    def is_contested(self, child: Child, difference: str, now: float) -> bool:
        """Tells whether a difference is no reason for another apply."""
        if child not in self._of:
            return False
        contest = self._of[child]
        times = contest.applies.get(_field(difference), [])
        return difference in contest.kept or sum(now - time < PERIOD for time in times) >= MOST_APPLIES

    def forget(self, owner: tuple[str, str]) -> None:
        """Drops what is known of the children of this namespace and name."""
        for child in [child for child in self._of if child[1:] == owner]:
            del self._of[child]


def _field(difference: str) -> str:
    return difference.partition(": ")[0]
