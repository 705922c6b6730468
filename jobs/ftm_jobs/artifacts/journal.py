"""Remembers the files that a killed run had finished, so that the next one keeps them.

After each file a small journal beside it names those that are done, with their sha256. The next run of the same key
reads them again, which needs neither arithmetic nor transfer, and keeps each whose bytes have that sha256. The journal
is a hint: lost, cut or written by two runs at once, it costs time and never correctness. A merge removes it once the
manifest says the same.
"""

import json
import logging
import re

from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.errors import StepError
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import WritableStore
from ftm_jobs.stores.names import is_plain_name
from ftm_jobs.stores.transfer import sha256_of

JOURNAL_NAME = "unfinished-merge.json"
"""A merge's."""
LARGEST_JOURNAL_BYTES = 4 * 1024 * 1024
_log = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Journal:
    """Holds the finished files of one key in one folder."""

    def __init__(self, target: WritableStore, key: str, name: str = JOURNAL_NAME) -> None:
        self._target = target
        self._key = key
        self._name = name
        self._sizes = target.list()
        self._before = self._read() if name in self._sizes else {}
        self._done: list[ManifestFile] = []

    def kept(self, path: str, size: int, progress: Progress) -> ManifestFile | None:
        """Returns the file that an earlier run finished, if it is there and its bytes are what that run wrote."""
        digest = self._before.get(path)
        if digest is None or self._sizes.get(path) != size:
            return None
        try:
            if sha256_of(self._target, path, size, progress) != digest:
                return None
        except StepError:
            return None
        _log.info("%s: kept from a run that was stopped", self._target.describe(path))
        return ManifestFile(path=path, size=size, sha256=digest)

    def add(self, *files_done: ManifestFile) -> None:
        """Adds files that are finished and whose sources are proven."""
        if not files_done:
            return
        self._done.extend(files_done)
        files = {**self._before, **{done.path: done.sha256 for done in self._done}}
        try:
            self._target.put(self._name, json.dumps({"key": self._key, "files": files}).encode())
        except StepError as error:
            _log.warning("a run after this one could not resume it: %s", error.message)

    def _read(self) -> dict[str, str]:
        """Returns sha256 by file; nothing where the journal is not one of this key."""
        size = self._sizes[self._name]
        if size > LARGEST_JOURNAL_BYTES:
            return {}
        try:
            content = json.loads(bytes(self._target.read(self._name, 0, size)))
        except (StepError, ValueError, RecursionError):
            return {}
        files = content.get("files") if isinstance(content, dict) and content.get("key") == self._key else None
        if not isinstance(files, dict):
            return {}
        return {
            path: digest
            for path, digest in files.items()
            if is_plain_name(path) and isinstance(digest, str) and _SHA256.fullmatch(digest)
        }


def remove_journal(target: WritableStore) -> None:
    if JOURNAL_NAME in target.list():
        target.delete(JOURNAL_NAME)
