"""Names the entries of a cache, and says how large each is, when it was used last, and by whom it is used now."""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.contract.manifest import MANIFEST_NAME
from ftm_jobs.contract.mounts import CACHED_ARTIFACTS, CACHED_CODE
from ftm_jobs.node_cache.locks import is_locked

LEASE_SECONDS = 600.0
"""A lease that nobody holds and that was not renewed for so long is a dead pod's."""


@dataclass(frozen=True)
class CacheEntry:
    """A folder of the cache, and what is recorded of it."""

    root: Path
    kind: str
    """CACHED_ARTIFACTS or CACHED_CODE."""
    name: str

    @property
    def folder(self) -> Path:
        return self.root / self.kind / self.name

    @property
    def lock(self) -> Path:
        return self.root / "locks" / self._id

    @property
    def _id(self) -> str:
        return f"{self.kind}-{self.name}"

    @property
    def _record(self) -> Path:
        return self.root / "records" / self._id

    @property
    def _leases(self) -> Path:
        return self.root / "in-use" / self._id

    def reserve(self, size: int) -> None:
        """Records the bytes that the entry will have, and that it is used now."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self._record.write_text(str(size))

    def touch(self) -> None:
        """Records that the entry is used now."""
        self._record.parent.mkdir(parents=True, exist_ok=True)
        self._record.touch()

    @property
    def last_used(self) -> float:
        """The time; 0 where it is not recorded."""
        try:
            return self._record.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    @property
    def present_bytes(self) -> int:
        return sum(_bytes(Path(place, file)) for place, _, files in os.walk(self.folder) for file in files)

    @property
    def bytes(self) -> int:
        """Those that are there, or those that are kept free for it where these are more."""
        reserved = 0
        with suppress(OSError, ValueError):
            reserved = int(self._record.read_text() or 0)
        return max(reserved, self.present_bytes)

    def lease(self, pod: str) -> Path:
        """Returns the file by which a pod says that it uses the entry."""
        return self._leases / pod

    def renew(self, pod: str) -> None:
        """Says that a pod uses the entry, for LEASE_SECONDS or for as long as it holds the lease's lock."""
        self._leases.mkdir(parents=True, exist_ok=True)
        self.lease(pod).touch()
        self.touch()

    def end_lease(self, pod: str) -> None:
        self.lease(pod).unlink(missing_ok=True)

    def is_in_use(self) -> bool:
        """Tells whether a pod uses the entry; removes leases of dead pods on the way."""
        try:
            leases = list(self._leases.iterdir())
        except FileNotFoundError:
            return False
        return any(_is_alive(lease) for lease in leases)

    def remove(self) -> None:
        """Removes the folder, its manifest first, so that what is left of a removal that is killed looks incomplete."""
        (self.folder / MANIFEST_NAME).unlink(missing_ok=True)
        shutil.rmtree(self.folder)
        self._record.unlink(missing_ok=True)


def entries(root: Path) -> list[CacheEntry]:
    """Returns all entries of a cache."""
    found = []
    for kind in (CACHED_ARTIFACTS, CACHED_CODE):
        with suppress(FileNotFoundError):
            found += [CacheEntry(root, kind, folder.name) for folder in sorted((root / kind).iterdir())]
    return found


def _is_alive(lease: Path) -> bool:
    try:
        alive = is_locked(lease) or time.time() - lease.stat().st_mtime < LEASE_SECONDS
    except FileNotFoundError:
        return False
    if not alive:
        lease.unlink(missing_ok=True)
    return alive


def _bytes(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:
        return 0
