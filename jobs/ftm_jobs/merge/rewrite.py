"""Streams a weight file from a store to another in blocks, changing rows on the way and hashing both sides.

Memory is bounded by the blocks in flight. The file appears in the target only if the bytes that were read have the
sha256 that the source declares.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.merge.blocks import Block
from ftm_jobs.runtime.pipeline import Stage, through
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import Stat, Store, WritableStore
from ftm_jobs.stores.transfer import Buffers, at_once, check_sha256

P = TypeVar("P")


@dataclass(frozen=True)
class Change(Generic[P]):
    """What happens to a block between reading and writing."""

    prepare: Callable[[Block], P]
    """Fetches what `apply` needs; runs beside the reading."""
    apply: Callable[[Block, memoryview, P], None]
    """Changes the block's bytes in place."""


class Witness(Protocol):
    """Knows what a file's bytes must be where they come from several others."""

    def see(self, block: Block, data: memoryview) -> None:
        """Called for each block as it was read, in order."""

    def found(self) -> Iterable[tuple[Stat, str]]:
        """Files of the source that were seen whole, and the sha256 of each."""


def rewrite(
    source: Store,
    stat: Stat,
    target: WritableStore,
    blocks: Iterable[Block],
    change: Change[P],
    progress: Progress,
    witness: Witness | None = None,
) -> ManifestFile:
    """The file with `change` applied to each of `blocks`, which cover it in order."""
    rewriting = _Rewriting(source, stat, change, witness)
    with target.writer(stat.path, stat.size) as writer:

        def write(loaded: _Loaded[P]) -> None:
            writer.write(loaded.data)
            rewriting.reuse(loaded)
            progress.add(loaded.block.size)

        seen = [] if stat.sealed else [Stage(rewriting.see, ordered=True)]
        changed = [Stage(rewriting.apply), Stage(rewriting.hash, ordered=True), Stage(write, ordered=True)]
        through(blocks, rewriting.read, [*seen, *changed], **at_once(source))
        rewriting.prove()
    return ManifestFile(path=stat.path, size=stat.size, sha256=rewriting.after.hexdigest())


@dataclass(frozen=True)
class _Loaded(Generic[P]):
    block: Block
    data: memoryview
    prepared: P


class _Rewriting(Generic[P]):
    """What is done to each block, stage by stage."""

    def __init__(self, source: Store, stat: Stat, change: Change[P], witness: Witness | None) -> None:
        self._source, self._stat, self._change, self._witness = source, stat, change, witness
        self._before = None if stat.sealed or not stat.sha256 else hashlib.sha256()
        self.after = hashlib.sha256()
        self._buffers = Buffers(source.block_bytes)

    def read(self, block: Block) -> _Loaded[P]:
        data = self._buffers.take(block.size)
        prepared = self._change.prepare(block)
        self._source.read_into(self._stat.path, block.offset, data)
        return _Loaded(block, data, prepared)

    def see(self, loaded: _Loaded[P]) -> None:
        if self._before:
            self._before.update(loaded.data)
        if self._witness:
            self._witness.see(loaded.block, loaded.data)

    def apply(self, loaded: _Loaded[P]) -> None:
        self._change.apply(loaded.block, loaded.data, loaded.prepared)

    def hash(self, loaded: _Loaded[P]) -> None:
        self.after.update(loaded.data)

    def reuse(self, loaded: _Loaded[P]) -> None:
        self._buffers.give_back(loaded.data)

    def prove(self) -> None:
        if self._before:
            check_sha256(self._source, self._stat, self._before.hexdigest())
        for stat, found in self._witness.found() if self._witness else ():
            check_sha256(self._source, stat, found)
