"""Locks files, so that of the pods of a node, or of a shared file system, one at a time does something.

The kernel lets go of a lock when its holder ends, however it ends.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftm_jobs.errors import InvalidInput, Reason

_UNKNOWN_TO_THE_FILE_SYSTEM = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_log = logging.getLogger(__name__)


@contextmanager
def locked(file: Path, waits_for: str) -> Iterator[None]:
    """Holds the file's lock; while another holds it, the log says what is waited for."""
    descriptor = _open(file)
    try:
        if not _take(descriptor, file):
            _log.info("waits until %s", waits_for)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked_if_free(file: Path) -> Iterator[bool]:
    """Holds the file's lock if nobody else does; yields whether it is held."""
    descriptor = _open(file)
    try:
        yield _take(descriptor, file)
    finally:
        os.close(descriptor)


def is_locked(file: Path) -> bool:
    """Tells whether somebody holds the lock of a file, which is not made if it is missing. Raises FileNotFoundError."""
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        return not _take(descriptor, file)
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _take(descriptor: int, file: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNKNOWN_TO_THE_FILE_SYSTEM:
            raise
        raise InvalidInput(
            Reason.INVALID_URI,
            f"the file system of {file.parent.parent} has no locks, by which pods share a cache: "
            "give spec.serving.cache a folder or a claim that has",
        ) from error
    return True
