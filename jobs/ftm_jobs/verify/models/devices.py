"""Says where models run and by how many threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ftm_jobs.runtime.limits import processors


def torch_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def cores() -> int:
    """Returns how many threads compute: OMP_NUM_THREADS, else the machine's or the container's share of it."""
    return max(1, int(os.environ.get("OMP_NUM_THREADS") or processors()))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Has torch compute by so many threads, and gives it back its own number.

    torch counts the machine's processors, not the container's: with more threads than the container may use, each
    waits for others that do not run.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
