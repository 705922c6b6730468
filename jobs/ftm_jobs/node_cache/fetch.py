"""Fetches an artifact or a base into a cache, or finds it there, and shows it as symbolic links in a pod's own folder.

What is there is read whole and proven by its sha256 each time: other pods, people and the disk may have changed it
since. An artifact that is there whole is proven by its own manifest, and its store is asked nothing. Pods that want the
same at once fetch it once. A fetch that was killed is gone on with.
"""

import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ftm_jobs.artifacts.fetch import fetched, is_right
from ftm_jobs.artifacts.manifest import artifact, read_manifest
from ftm_jobs.contract.manifest import Manifest, ManifestFile
from ftm_jobs.contract.mounts import CACHED_ARTIFACTS, CACHED_CODE
from ftm_jobs.contract.report import Report
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.node_cache.entries import LEASE_SECONDS, CacheEntry
from ftm_jobs.node_cache.locks import locked
from ftm_jobs.node_cache.room import make_room, trim
from ftm_jobs.runtime.os_errors import explain
from ftm_jobs.runtime.pipeline import in_order
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores.file import FileStore
from ftm_jobs.stores.source import Source

RENEWAL_SECONDS = LEASE_SECONDS / 10
FILES_PROVEN_AT_ONCE = min(8, os.cpu_count() or 1)
_DIGEST_DIGITS = 16
_LONGEST_PART = 100
_FOR_THE_GROUP_TOO = 0o2775
"""The mode of a folder that an engine writes to, which may run as another user of the pod's fsGroup."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PodsCache:
    """A cache, as one pod uses it."""

    root: Path
    size: int
    """The most bytes that it holds."""
    pod: str
    """The name of the pod's leases, which no other pod has."""


@dataclass(frozen=True)
class WantedFiles:
    """The files that a pod is to have in its folder."""

    source: Source
    total_bytes: int
    bring: Callable[[Path], Report]
    """Fills a folder with them, and keeps what is right there."""


def artifact_entry(root: Path, source: Source) -> CacheEntry:
    """Returns the entry of an artifact or a base. Raises InvalidInput where its digest is not given."""
    if not source.digest:
        raise InvalidInput(
            Reason.INVALID_URI,
            f'"{source.uri}" is named without its digest, by which a cache knows it: write ,digest=sha256:… after it',
        )
    last = _NOT_IN_NAMES.sub("-", source.uri.rstrip("/").rpartition("/")[2])[:_LONGEST_PART]
    return CacheEntry(root, CACHED_ARTIFACTS, f"{last}-{source.digest.removeprefix('sha256:')[:_DIGEST_DIGITS]}")


def compiled_entry(root: Path, name: str) -> CacheEntry:
    """Returns the entry of what an engine compiles."""
    return CacheEntry(root, CACHED_CODE, name)


def fetch_cached(cache: PodsCache, wanted: WantedFiles, folder: Path) -> Report:
    """Fills the folder with links to the cache's files, or with the files where the cache has no room for them.

    Raises StepError as `wanted.bring` and the file system do.
    """
    entry = artifact_entry(cache.root, wanted.source)
    with _explained(cache.root):
        entry.folder.parent.mkdir(parents=True, exist_ok=True)
        report = _kept_or_fetched(cache, entry, wanted)
        if isinstance(report, Report):
            _show(entry, folder)
            return report
    brought = wanted.bring(folder)
    return brought.model_copy(update={"message": f"{brought.message}; they are not in the node's cache: {report}"})


def use_compiled(cache: PodsCache, name: str) -> None:
    """Makes the folder for what the pod's engine compiles; nothing removes it while the pod uses it."""
    entry = compiled_entry(cache.root, name)
    with _explained(cache.root):
        with locked(entry.lock, f"another pod is done with {entry.folder}"):
            entry.renew(cache.pod)
            if not entry.folder.exists():
                entry.folder.mkdir(parents=True)
                entry.folder.chmod(_FOR_THE_GROUP_TOO)
        trim(cache.root, cache.size)


def _kept_or_fetched(cache: PodsCache, entry: CacheEntry, wanted: WantedFiles) -> Report | str:
    """Returns the report of files that are in the cache; else why they are not."""
    waits_for = f"another pod has fetched {entry.name}"
    with locked(entry.lock, waits_for):
        entry.renew(cache.pod)
        kept = _complete(entry.folder, wanted.source)
        if kept is None:
            return _fill(cache, entry, wanted)
    manifest, text = kept
    if _all_right(entry.folder, manifest.files):
        found = artifact(FileStore(entry.folder, wanted.source.uri), manifest, text)
        sizes = [file.size for file in manifest.files]
        return fetched(entry.folder, wanted.source.uri, sizes, len(sizes), found)
    _log.warning("%s is not as it was fetched; it is mended", entry.folder)
    with locked(entry.lock, waits_for):
        return _fill(cache, entry, wanted)


def _fill(cache: PodsCache, entry: CacheEntry, wanted: WantedFiles) -> Report | str:
    reason = make_room(entry, wanted.total_bytes, cache.size)
    if reason:
        entry.end_lease(cache.pod)
        return reason
    try:
        with _renewed(entry, cache.pod):
            return wanted.bring(entry.folder)
    except BaseException:
        entry.end_lease(cache.pod)
        raise


def _complete(folder: Path, source: Source) -> tuple[Manifest, bytes] | None:
    """Returns the manifest of the artifact that a folder holds whole, to go by the manifest's digest and the sizes."""
    store = FileStore(folder)
    try:
        written = read_manifest(store, store.list())
    except InvalidInput:
        return None
    if not written or f"sha256:{hashlib.sha256(written[1]).hexdigest()}" != source.digest:
        return None
    whole = all(_size(folder / file.path) == file.size for file in written[0].files)
    return written if whole else None


def _all_right(folder: Path, files: tuple[ManifestFile, ...]) -> bool:
    """Tells whether each file has its sha256; all are read."""
    progress = Progress("prove", sum(file.size for file in files))

    def prove(file: ManifestFile) -> bool:
        try:
            right = is_right(folder / file.path, file)
        except FileNotFoundError:
            return False
        progress.add(file.size)
        return right

    threads = FILES_PROVEN_AT_ONCE
    right = all(in_order(prove, files, threads=threads, ahead=2 * threads))
    progress.close()
    return right


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _show(entry: CacheEntry, folder: Path) -> None:
    """Fills the folder with links to the entry's files, by their names."""
    for place, _, names in os.walk(entry.folder):
        for file in (Path(place, name) for name in names if not name.startswith(".")):
            link = folder / file.relative_to(entry.folder)
            aside = link.with_name(f".{link.name}.link")
            link.parent.mkdir(parents=True, exist_ok=True)
            aside.unlink(missing_ok=True)
            aside.symlink_to(file)
            aside.replace(link)


@contextmanager
def _renewed(entry: CacheEntry, pod: str) -> Iterator[None]:
    """Renews the pod's lease from time to time, however long the block takes."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWAL_SECONDS):
            entry.renew(pod)

    threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain(error, f"the cache {error.filename or root}", "give spec.serving.cache another place") from error
