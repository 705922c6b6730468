"""Holds a pod's leases for as long as the pod lives, so that no other pod removes what its engine reads.

The lock of a lease is the kernel's word that its holder lives: however that ends, the lock is free at once. Where pods
are on nodes that do not see each other's locks, and while a holder is started again, the lease's time says it.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ftm_jobs.node_cache.entries import CacheEntry
from ftm_jobs.node_cache.fetch import RENEWAL_SECONDS
from ftm_jobs.runtime.os_errors import explain


def hold(entries: Sequence[CacheEntry], pod: str, pause: Callable[[float], object] = time.sleep) -> None:
    """Holds the pod's leases until it is interrupted, and ends them then.

    Raises StepError as the file system does, and whatever `pause` raises.
    """
    try:
        with ExitStack() as leases:
            for entry in entries:
                leases.enter_context(_held(entry, pod))
            while True:
                pause(RENEWAL_SECONDS)
                for entry in entries:
                    entry.renew(pod)
    except OSError as error:
        raise explain(error, f"the cache {error.filename}", "give spec.serving.cache another place") from error


@contextmanager
def _held(entry: CacheEntry, pod: str) -> Iterator[None]:
    entry.renew(pod)
    descriptor = _locked(entry.lease(pod))
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            entry.touch()
        entry.end_lease(pod)
        os.close(descriptor)


def _locked(lease: Path) -> int:
    descriptor = os.open(lease, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor
