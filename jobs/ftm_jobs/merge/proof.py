"""Proves that base files are what their store declares, while other files are composed of them.

The composed files are written in order and take a base file's tensors in the order of their bytes, so that each base
file is hashed from its start; what no tensor takes (its header, what is replaced, what an earlier run has written) is
read for the hash alone.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ftm_jobs.checkpoint.output_layout import OutputFile
from ftm_jobs.checkpoint.sources import StoredBase
from ftm_jobs.merge.blocks import Block
from ftm_jobs.merge.composed_file import ComposedFile
from ftm_jobs.stores import Stat


@dataclass
class _Reading:
    stat: Stat
    position: int = 0
    done: bool = False
    digest: Any = field(default_factory=hashlib.sha256)


class Proof:
    """Hashes the base files that `files`, which are written in this order, take tensors from."""

    def __init__(self, base: StoredBase, files: Sequence[OutputFile]) -> None:
        self._base = base
        origins = {file.name: file.sources for file in files if file.base_file is None}
        self._last = {origin: name for name, sources in origins.items() for origin in sources}
        unproven = [name for name in self._last if base.stats[name].sha256 and not base.stats[name].sealed]
        self._readings = {name: _Reading(base.stats[name]) for name in unproven}

    def holds(self, file: OutputFile) -> bool:
        """Returns whether all that the written file was made from has been proven."""
        return file.base_file is not None or all(
            self._readings[name].done for name in file.sources if name in self._readings
        )

    def observer(self, file: OutputFile, composed: ComposedFile) -> "ComposedFileObserver":
        return ComposedFileObserver(self, file, composed)

    def take(self, name: str, offset: int, data: memoryview) -> None:
        """Hashes the base file's bytes from `offset`; those that were hashed before are passed over."""
        reading = self._readings.get(name)
        if reading is None or offset < reading.position:
            return
        self._read_up_to(reading, offset)
        reading.digest.update(data)
        reading.position += len(data)

    def conclude(self, file: OutputFile) -> Iterator[tuple[Stat, str]]:
        """Yields the base files that no file after this one takes from, and their sha256."""
        for name in file.sources:
            reading = self._readings.get(name)
            if reading and self._last[name] == file.name:
                self._read_up_to(reading, reading.stat.size)
                yield reading.stat, reading.digest.hexdigest()
                reading.done = True

    def _read_up_to(self, reading: _Reading, end: int) -> None:
        while reading.position < end:
            size = min(self._base.store.block_bytes, end - reading.position)
            reading.digest.update(self._base.store.read(reading.stat.path, reading.position, size))
            reading.position += size


class ComposedFileObserver:
    """Hands one composed file's bytes to the proof as they are read."""

    def __init__(self, proof: Proof, file: OutputFile, composed: ComposedFile) -> None:
        self._proof = proof
        self._file = file
        self._composed = composed

    def observe(self, block: Block, data: memoryview) -> None:
        for name, offset, part in self._composed.from_base(block.offset, block.size):
            self._proof.take(name, offset, data[part])

    def digests(self) -> Iterator[tuple[Stat, str]]:
        yield from self._proof.conclude(self._file)
