"""Compares the memory that a model takes with the memory that is free."""

import os
from pathlib import Path

from ftm_jobs.runtime.limits import memory_limit
from ftm_jobs.verify.models.layerwise import LayerwiseModel

WORKING_BYTES = 512 * 1024 * 1024
"""Bytes that running a model takes beside its weights, at least."""


def whole_bytes(model: LayerwiseModel) -> int:
    """Returns the bytes of a model that is whole in memory, in fp32."""
    numbers: int = sum(parameter.numel() for parameter in model.skeleton.model.parameters())
    return 4 * numbers + WORKING_BYTES


def free_memory() -> int:
    """Returns the bytes that this process may still take, of the machine or of its container if that is less."""
    return max(0, min(_available(), memory_limit() - _used()))


def _available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return memory_limit()


def _used() -> int:
    """Returns the bytes that this process holds, without pages of files: the kernel takes those back."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
