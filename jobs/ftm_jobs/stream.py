"""Streams one file from a store to another in blocks, changing rows on the way and hashing both sides.

Memory is bounded by the blocks in flight, whatever the file's size. The file appears in the target only if the bytes
that were read have the sha256 that the source declares.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from ftm_jobs.contract import ManifestFile
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.layout import Block
from ftm_jobs.pipeline import in_order
from ftm_jobs.progress import Progress
from ftm_jobs.stores import NotCopied, Stat, Store, WritableStore, Writer

READERS = 4
BLOCKS_READ_AHEAD = 6
BLOCKS_PER_STAGE = 2
CHANGERS = max(1, min(4, len(os.sched_getaffinity(0)) - 1))
"""One processor is left to hash what they changed."""

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


def copy(source: Store, stat: Stat, target: WritableStore, progress: Progress) -> ManifestFile:
    """The file as it is. Raises InvalidInput (CorruptSource, SourceChanged) and what stores raise.

    Every byte is read from the source and hashed, so the digest that is returned was proven here, or is sealed. Where
    both sides are one store that copies by itself, the bytes are not sent back to it: it copies the version that was
    hashed. A file without a declared sha256 is always streamed.
    """
    copier = target.copier(source, stat) if stat.sha256 else None
    if copier is not None:
        read = 0

        def count(size: int) -> None:
            nonlocal read
            read += size
            progress.add(size)

        try:
            return _copy(source, stat, copier, count)
        except NotCopied as refusal:
            print(f"{target.describe(stat.path)}: {refusal}; it is streamed instead", file=sys.stderr, flush=True)
            progress.add(-read)
    return _copy(source, stat, target.writer(stat.path, stat.size), progress.add)


def _copy(
    source: Store, stat: Stat, target: AbstractContextManager[Writer], count: Callable[[int], None]
) -> ManifestFile:
    digest = None if stat.sealed else hashlib.sha256()
    with target as writer:
        for data in _read(source, stat):
            if digest:
                digest.update(data)
            writer.write(data)
            count(len(data))
        if digest:
            _prove(source, stat, digest.hexdigest())
    sha256 = digest.hexdigest() if digest else stat.sha256
    assert sha256
    return ManifestFile(path=stat.path, size=stat.size, sha256=sha256)


def sha256_of(store: Store, path: str, size: int, progress: Progress) -> str:
    """Of the file's bytes, read once."""
    digest = hashlib.sha256()
    for data in _read(store, Stat(path, size, "")):
        digest.update(data)
        progress.add(len(data))
    return digest.hexdigest()


def prove(source: Store, stat: Stat, progress: Progress) -> None:
    """Read the file and compare it with the sha256 that the source declares, if it does."""
    if stat.sealed:
        progress.add(stat.size)
    elif stat.sha256:
        _prove(source, stat, sha256_of(source, stat.path, stat.size, progress))


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
    changers = max(BLOCKS_PER_STAGE, CHANGERS)
    if stat.sealed:
        changed = in_order(rewriting.read_and_apply, blocks, threads=CHANGERS, ahead=changers)
    else:
        read = in_order(rewriting.read, blocks, threads=READERS, ahead=BLOCKS_READ_AHEAD)
        seen = in_order(rewriting.see, read, threads=1, ahead=BLOCKS_PER_STAGE)
        changed = in_order(rewriting.apply, seen, threads=CHANGERS, ahead=changers)
    with target.writer(stat.path, stat.size) as writer:
        hashed = rewriting.hash(changed)
        for count in in_order(partial(rewriting.write, writer), hashed, threads=1, ahead=BLOCKS_PER_STAGE):
            progress.add(count)
        rewriting.prove()
    return ManifestFile(path=stat.path, size=stat.size, sha256=rewriting.after.hexdigest())


@dataclass(frozen=True)
class _Loaded(Generic[P]):
    block: Block
    whole: bytearray
    data: memoryview
    prepared: P


class _Rewriting(Generic[P]):
    """What is done to each block, stage by stage."""

    def __init__(self, source: Store, stat: Stat, change: Change[P], witness: Witness | None) -> None:
        self._source, self._stat, self._change, self._witness = source, stat, change, witness
        self._before = None if stat.sealed or not stat.sha256 else hashlib.sha256()
        self.after = hashlib.sha256()
        self._buffers = _Buffers(source.block_bytes)

    def read(self, block: Block) -> _Loaded[P]:
        whole = self._buffers.take(block.size)
        data = memoryview(whole)[: block.size]
        prepared = self._change.prepare(block)
        self._source.read_into(self._stat.path, block.offset, data)
        return _Loaded(block, whole, data, prepared)

    def see(self, loaded: _Loaded[P]) -> _Loaded[P]:
        if self._before:
            self._before.update(loaded.data)
        if self._witness:
            self._witness.see(loaded.block, loaded.data)
        return loaded

    def apply(self, loaded: _Loaded[P]) -> _Loaded[P]:
        self._change.apply(loaded.block, loaded.data, loaded.prepared)
        return loaded

    def read_and_apply(self, block: Block) -> _Loaded[P]:
        return self.apply(self.read(block))

    def hash(self, changed: Generator[_Loaded[P]]) -> Iterator[_Loaded[P]]:
        """In the thread that asks for the blocks, while others read, change and write."""
        with closing(changed):
            for loaded in changed:
                self.after.update(loaded.data)
                yield loaded

    def write(self, writer: Writer, loaded: _Loaded[P]) -> int:
        writer.write(loaded.data)
        loaded.data.release()
        self._buffers.give_back(loaded.whole)
        return loaded.block.size

    def prove(self) -> None:
        if self._before:
            _prove(self._source, self._stat, self._before.hexdigest())
        for stat, found in self._witness.found() if self._witness else ():
            _prove(self._source, stat, found)


@dataclass
class _Buffers:
    """Reused, since fresh memory costs a page fault for each 4 KiB."""

    smallest: int
    free: SimpleQueue[bytearray] = field(default_factory=SimpleQueue)

    def take(self, size: int) -> bytearray:
        try:
            found = self.free.get_nowait()
        except Empty:
            found = bytearray()
        return found if len(found) >= size else bytearray(max(size, self.smallest))

    def give_back(self, buffer: bytearray) -> None:
        self.free.put(buffer)


def _read(source: Store, stat: Stat) -> Iterator[bytearray]:
    def read(offset: int) -> bytearray:
        return source.read(stat.path, offset, min(source.block_bytes, stat.size - offset))

    return in_order(read, range(0, stat.size, source.block_bytes), threads=READERS, ahead=BLOCKS_READ_AHEAD)


def _prove(source: Store, stat: Stat, found: str) -> None:
    if stat.sha256 and found != stat.sha256:
        raise InvalidInput(
            Reason.CORRUPT_SOURCE,
            f"{source.describe(stat.path)} has sha256 {found}, but the store declares {stat.sha256}: upload it again",
        )
