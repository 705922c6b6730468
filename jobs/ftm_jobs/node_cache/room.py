"""Makes room in a cache: what was used least recently goes first, never what a pod uses.

`evictions` is pure. Room is made under one lock, and is recorded as the new entry's before that is let go, so that two
pods that fetch at once do not count the same room.
"""

import logging
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.node_cache.entries import CacheEntry, entries
from ftm_jobs.node_cache.locks import locked, locked_if_free

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptEntry:
    """An entry of a cache, as far as its removal is concerned."""

    name: str
    bytes: int
    last_used: float
    in_use: bool


def evictions(kept: Sequence[KeptEntry], bytes_to_free: int) -> list[KeptEntry] | None:
    """Returns what to remove, least recently used first; None where all that may go is not enough."""
    chosen: list[KeptEntry] = []
    for entry in sorted(kept, key=lambda entry: (entry.last_used, entry.name)):
        if sum(each.bytes for each in chosen) >= bytes_to_free:
            break
        if not entry.in_use:
            chosen.append(entry)
    return chosen if sum(each.bytes for each in chosen) >= bytes_to_free else None


def make_room(wanted: CacheEntry, wanted_bytes: int, size: int) -> str | None:
    """Removes what must go so that the entry fits in a cache of `size` bytes, and keeps the room for it.

    Returns None once there is room, else why there is none, and then nothing was removed. The caller holds the lock of
    the wanted entry.
    """
    if wanted_bytes > size:
        return f"a cache of {format_bytes(size)} is smaller"
    with _alone_in(wanted.root):
        others = [entry for entry in entries(wanted.root) if entry.folder != wanted.folder]
        free_disk = shutil.disk_usage(wanted.root).free
        over = sum(entry.bytes for entry in others) + wanted_bytes - size
        if not _evict(others, max(over, wanted_bytes - wanted.present_bytes - free_disk)):
            used = sum(entry.bytes for entry in others)
            return (
                f"pods use what else is in the cache of {format_bytes(size)}, which holds {format_bytes(used)}, and "
                f"{format_bytes(free_disk)} of its disk are free"
            )
        wanted.reserve(wanted_bytes)
    return None


def trim(root: Path, size: int) -> None:
    """Removes what is over the size of the cache, as what engines compile grows, if enough may go."""
    with _alone_in(root):
        found = entries(root)
        _evict(found, sum(entry.bytes for entry in found) - size)


def _alone_in(root: Path) -> AbstractContextManager[None]:
    return locked(root / "locks" / "room", "another pod has made room in the cache")


def _evict(found: Sequence[CacheEntry], bytes_to_free: int) -> bool:
    """Removes entries of so many bytes; returns False, and removes nothing, where that many may not go."""
    if bytes_to_free <= 0:
        return True
    with ExitStack() as locks:
        kept = {
            str(entry.folder): KeptEntry(
                str(entry.folder),
                entry.bytes,
                entry.last_used,
                in_use=not locks.enter_context(locked_if_free(entry.lock)) or entry.is_in_use(),
            )
            for entry in found
        }
        chosen = evictions(list(kept.values()), bytes_to_free)
        if chosen is None:
            return False
        by_name = {str(entry.folder): entry for entry in found}
        for entry in chosen:
            _remove(by_name[entry.name])
            _log.info("removed %s, %s, from the cache to make room", entry.name, format_bytes(entry.bytes))
    return True


def _remove(entry: CacheEntry) -> None:
    try:
        entry.remove()
    except PermissionError as error:  # an engine that ran as another user has written there
        raise InvalidInput(
            Reason.ACCESS_DENIED,
            f"{entry.folder} in the cache must make room, and {error.filename} in it is another user's: remove it on "
            "the node, or let all containers of the pods run as one user",
        ) from error
