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


class BlockObserver(Protocol):
    """Proves a file's bytes where they come from several others."""

    def observe(self, block: Block, data: memoryview) -> None:
        """Takes each block as it was read, in order."""

    def digests(self) -> Iterable[tuple[Stat, str]]:
        """Yields the files of the source that were read whole, and the sha256 of each."""


@dataclass(frozen=True)
class BlockEdit(Generic[P]):
    """Changes a block between reading and writing."""

    prepare: Callable[[Block], P]
    """Fetches what `apply` needs; runs beside the reading."""
    apply: Callable[[Block, memoryview, P], memoryview]
    """Returns what is written of the block: its bytes changed in place, or others where a dtype changes."""
    observer: BlockObserver | None = None


def rewrite(
    source: Store,
    stat: Stat,
    target: WritableStore,
    blocks: Iterable[Block],
    edit: BlockEdit[P],
    progress: Progress,
) -> ManifestFile:
    """Writes the file with `edit` applied to each of `blocks`, which cover it in order."""
    rewriting = _Rewriting(source, stat, edit)
    with target.writer(stat.path, stat.size) as writer:

        def write(loaded: _Loaded[P]) -> None:
            writer.write(loaded.written)
            rewriting.reuse(loaded)
            progress.add(loaded.block.size)

        observed = [] if stat.sealed else [Stage(rewriting.observe, ordered=True)]
        changed = [Stage(rewriting.apply), Stage(rewriting.hash, ordered=True), Stage(write, ordered=True)]
        through(blocks, rewriting.read, [*observed, *changed], **at_once(source))
        rewriting.prove()
    return ManifestFile(path=stat.path, size=stat.size, sha256=rewriting.after.hexdigest())


@dataclass
class _Loaded(Generic[P]):
    block: Block
    data: memoryview
    prepared: P
    written: memoryview


class _Rewriting(Generic[P]):
    """Does to each block, stage by stage, what rewriting means."""

    def __init__(self, source: Store, stat: Stat, edit: BlockEdit[P]) -> None:
        self._source, self._stat, self._edit = source, stat, edit
        self._before = None if stat.sealed or not stat.sha256 else hashlib.sha256()
        self.after = hashlib.sha256()
        self._buffers = Buffers(source.block_bytes)

    def read(self, block: Block) -> _Loaded[P]:
        data = self._buffers.take(block.size)
        prepared = self._edit.prepare(block)
        self._source.read_into(self._stat.path, block.offset, data)
        return _Loaded(block, data, prepared, data)

    def observe(self, loaded: _Loaded[P]) -> None:
        if self._before:
            self._before.update(loaded.data)
        if self._edit.observer:
            self._edit.observer.observe(loaded.block, loaded.data)

    def apply(self, loaded: _Loaded[P]) -> None:
        loaded.written = self._edit.apply(loaded.block, loaded.data, loaded.prepared)

    def hash(self, loaded: _Loaded[P]) -> None:
        self.after.update(loaded.written)

    def reuse(self, loaded: _Loaded[P]) -> None:
        self._buffers.give_back(loaded.data)

    def prove(self) -> None:
        if self._before:
            check_sha256(self._source, self._stat, self._before.hexdigest())
        for stat, digest in self._edit.observer.digests() if self._edit.observer else ():
            check_sha256(self._source, stat, digest)
