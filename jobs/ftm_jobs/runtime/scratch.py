"""Gives a step a folder for its own files: $FTM_SCRATCH, else the system's temporary folder.

The folder is named after the key and held by a lock, so that a run after a killed one finds what was fetched and
removes it in the end, and a second run at the same time takes a folder of its own.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftm_jobs.contract.byte_counts import format_bytes
from ftm_jobs.errors import Failed, InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain

VARIABLE = "FTM_SCRATCH"
_LOCK = ".lock"


def scratch_root() -> Path:
    return Path(os.environ.get(VARIABLE) or tempfile.gettempdir())


@contextmanager
def scratch(key: str, needed_bytes: int) -> Iterator[Path]:
    """Yields a folder that is removed when the block ends, however it ends.

    Raises Failed (DiskFull) when the disk has less than `needed_bytes` free, with both figures.
    """
    root = scratch_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder, lock = _own(root, key)
    except OSError as error:
        raise explain_scratch(error, root) from error
    try:
        free = shutil.disk_usage(folder).free + sum(path.lstat().st_size for path in folder.rglob("*"))
        if free < needed_bytes:
            raise Failed(
                Reason.DISK_FULL,
                f"{root} has {format_bytes(free)} free, and this step needs some {format_bytes(needed_bytes)} there: "
                f"give it a larger volume, or name another folder in {VARIABLE}",
            )
        yield folder
    except OSError as error:
        raise explain_scratch(error, folder) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _own(root: Path, key: str) -> tuple[Path, int]:
    """Returns a folder that this process alone uses, and the lock that keeps it so."""
    folder = root / f"ftm-{key}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if folder.is_dir() and not folder.is_symlink() and status.st_uid == os.getuid():
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), (folder / _LOCK).stat()):  # else its holder has removed the folder
                return folder, lock
        except OSError:
            pass
        os.close(lock)
    folder = Path(tempfile.mkdtemp(prefix=f"ftm-{key}-", dir=root))
    return folder, os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def explain_scratch(error: OSError, folder: Path) -> InvalidInput | Failed:
    """Returns the step's error for a folder of scratch files that cannot be used."""
    return explain(error, str(folder), f"name another folder in {VARIABLE}")


def emptied(folder: Path) -> None:
    """Makes the folder anew, so that nothing of a killed run is left, neither files nor folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
