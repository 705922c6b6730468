"""A step counts with what its container allows."""

import os
from pathlib import Path

import pytest

from ftm_jobs.runtime.limits import memory_limit, processors

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroups(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "134217728\n"}, 134217728),
        ({"memory/memory.limit_in_bytes": "134217728\n"}, 134217728),
        ({"memory.max": "max\n"}, MACHINE),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ({}, MACHINE),
    ],
)
def test_memory_is_the_container_s_or_the_machine_s(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    assert memory_limit(cgroups(tmp_path, files)) == limit


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 4096),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4096),
    ],
)
def test_processors_are_those_of_the_quota(tmp_path: Path, files: dict[str, str], most: int) -> None:
    assert processors(cgroups(tmp_path, files)) == min(most, len(os.sched_getaffinity(0)))
