"""Reads the memory and processors that this process may use: its container's limits, else the machine's."""

import os
import resource
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_MEMORY_FILES = ("memory.max", "memory/memory.limit_in_bytes")


def memory_limit(cgroups: Path = CGROUPS) -> int:
    """Returns bytes."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in _MEMORY_FILES:
        text = _read(cgroups / name)
        if text.isdigit() and int(text):
            limits.append(int(text))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    return min(limits)


def processors(cgroups: Path = CGROUPS) -> int:
    """Returns a whole number, at least one."""
    count = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroups / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(cgroups / "cpu/cpu.cfs_quota_us"), _read(cgroups / "cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        count = min(count, -(-int(quota) // int(period)))
    return max(1, count)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
