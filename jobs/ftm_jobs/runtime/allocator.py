"""glibc's allocator, told to keep what is freed.

A merge allocates and frees the same few megabytes thousands of times. By default each goes back to the kernel and
costs a page fault for every 4 KiB when it is asked for again, which made arithmetic on chunks of 1 MiB four times as
slow. What is kept is bounded by what was in use at once, in as few arenas as there are processors to fill them: by
default each of the many threads that wait for a network would keep its own.
"""

import ctypes
from contextlib import suppress

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
KEPT_BYTES = 256 * 1024 * 1024
LARGEST_KEPT_BYTES = 8 * 1024 * 1024
"""As much as a chunk's arithmetic asks for at once; larger are a network's buffers, which cost more memory when kept
than time when not."""
ARENAS = 2


def keep_freed_memory() -> None:
    """Does nothing where the C library has no mallopt."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)
