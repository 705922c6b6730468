"""Remembers sha256 of local files between runs: a large model is hashed once, not for each command that reads it.

A file is taken for the same while its device, inode, size and times are (what git and make trust too). One that was
changed a moment before it was hashed is not remembered, since another change could leave the same time. Without a
folder to write to, as in most pods, nothing is remembered.
"""

import hashlib
import json
import os
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

SMALLEST_REMEMBERED_BYTES = 16 * 1024 * 1024
SETTLED_SECONDS = 2.0
MOST_REMEMBERED = 4096

_memory: dict[str, str] = {}
_lock = threading.Lock()


def cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "ftm-operator", "digests.json")


def sha256_of_file(path: Path) -> tuple[os.stat_result, str]:
    """Returns the file as it was when its hashing began, and the hash in hex. Raises OSError."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        version = _version(status)
        with _lock:
            remembered = _memory.get(version)
        if remembered is None and status.st_size >= SMALLEST_REMEMBERED_BYTES:
            remembered = _read().get(version)
        digest = remembered or hashlib.file_digest(file, "sha256").hexdigest()
    with _lock:
        _memory[version] = digest
    if remembered is None and status.st_size >= SMALLEST_REMEMBERED_BYTES and _settled(status):
        _remember(version, digest)
    return status, digest


def is_remembered(path: Path) -> bool:
    """Returns whether the sha256 of the file is known without reading it. Raises OSError."""
    version = _version(path.stat())
    with _lock:
        return version in _memory or version in _read()


def _version(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _settled(status: os.stat_result) -> bool:
    return max(status.st_mtime, status.st_ctime) < time.time() - SETTLED_SECONDS


def _read() -> dict[str, str]:
    try:
        content = json.loads(cache_file().read_bytes())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home folder
        return {}
    return content if isinstance(content, dict) else {}


def _remember(version: str, digest: str) -> None:
    with _lock, suppress(OSError, RuntimeError):
        path = cache_file()
        content = {**_read(), version: digest}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{secrets.token_hex(4)}")
        partial.write_text(json.dumps(dict(list(content.items())[-MOST_REMEMBERED:])))
        partial.replace(path)
