"""Locks between processes of one user, held as long as a block runs and released by the kernel when a process dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cache import cache
from tests.cluster.progress import say


@contextmanager
def alone(name: str, waiting_for: str) -> Iterator[None]:
    """Hold the lock `name`; while another process has it, say what is being waited for and wait."""
    path = cache(f"{name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {waiting_for} ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
