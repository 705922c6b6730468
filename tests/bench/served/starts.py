"""Measures starts by part, as `status.start` has them: of an engine that finds nothing, and of the next one.

Cold: the weights come from S3, and none of them is in the page cache when the engine begins. Warm: the node's cache has
the weights, proven again. vLLM compiles nothing here, as under `ftm run` on processors, so no part of a start is its
compilation. Python's own libraries are in the page cache both times.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ftm_operator.api.v1alpha1 import Start
from ftm_operator.observe.start_time import said_of_start
from ftm_operator.planning.feedback.start_parts import StartParts
from tests.bench.served.engines import Engine


@dataclass(frozen=True)
class MeasuredStart:
    """One start of an engine."""

    title: str
    engine_seconds: float
    """From its process until it answered."""
    parts: StartParts | None
    fetch_seconds: float | None = None
    in_memory: int | None = None
    """The bytes of the weights that were in the page cache before; None: they were not taken out of it."""

    @property
    def words(self) -> str:
        """Returns the start in the words of `ftm explain`."""
        fetch = None if self.fetch_seconds is None else round(self.fetch_seconds)
        whole = Start(seconds=round((self.fetch_seconds or 0) + self.engine_seconds), fetch_seconds=fetch)
        told = said_of_start(whole.model_copy(update=vars(self.parts) if self.parts else {}))
        memory = "" if self.in_memory is None else f" ({self.in_memory} bytes of the weights were in memory)"
        return f"{self.title}: {told}{memory}"


def measure_start(title: str, engine: Engine, fetch_seconds: float | None, in_memory: int | None) -> MeasuredStart:
    """Waits until an engine that was just started answers; nothing else runs meanwhile."""
    return MeasuredStart(title, engine.await_ready(), engine.parts(), fetch_seconds, in_memory)


def drop_pages(folder: Path) -> int:
    """Takes a folder's files out of the page cache, and returns the bytes of them that are in it still."""
    files = [path.resolve() for path in folder.rglob("*") if path.is_file()]
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    listed = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--raw", "--output", "RES", *map(str, files)],
        capture_output=True,
        text=True,
        check=True,
    )
    return sum(int(line) for line in listed.stdout.split())
