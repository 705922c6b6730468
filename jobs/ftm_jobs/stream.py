"""Streams one file from a store to another in blocks, changing rows on the way and hashing both sides.

Memory is bounded by the blocks in flight, whatever the file's size. The file appears in the target only if the bytes
that were read have the sha256 that the source declares.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from ftm_jobs.contract import ManifestFile
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.layout import BLOCK_BYTES, Block
from ftm_jobs.pipeline import in_order
from ftm_jobs.progress import Progress
from ftm_jobs.stores import NotCopied, Stat, Store, WritableStore, Writer

READERS = 4
BLOCKS_READ_AHEAD = 6
BLOCKS_PER_STAGE = 2
CHANGERS = min(4, len(os.sched_getaffinity(0)))

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

    Every byte is read from the source and hashed, so the digest that is returned was proven here. Where both sides are
    one store that copies by itself, the bytes are not sent back to it: it copies the version that was hashed. A file
    without a declared sha256 is always streamed.
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
    digest = hashlib.sha256()
    with target as writer:
        for data in _read(source, stat):
            digest.update(data)
            writer.write(data)
            count(len(data))
        _prove(source, stat, digest.hexdigest())
    return ManifestFile(path=stat.path, size=stat.size, sha256=digest.hexdigest())


def sha256_of(store: Store, path: str, size: int, progress: Progress) -> str:
    """Of the file's bytes, read once."""
    digest = hashlib.sha256()
    for data in _read(store, Stat(path, size, "")):
        digest.update(data)
        progress.add(len(data))
    return digest.hexdigest()


def prove(source: Store, stat: Stat, progress: Progress) -> None:
    """Read the file and compare it with the sha256 that the source declares, if it does."""
    if stat.sha256 is None:
        return
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
    before, after = hashlib.sha256(), hashlib.sha256()
    buffers = _Buffers()

    def read(block: Block) -> _Loaded[P]:
        whole = buffers.take(block.size)
        data = memoryview(whole)[: block.size]
        prepared = change.prepare(block)
        source.read_into(stat.path, block.offset, data)
        return _Loaded(block, whole, data, prepared)

    def hash_before(loaded: _Loaded[P]) -> _Loaded[P]:
        if stat.sha256:
            before.update(loaded.data)
        if witness:
            witness.see(loaded.block, loaded.data)
        return loaded

    def apply(loaded: _Loaded[P]) -> _Loaded[P]:
        change.apply(loaded.block, loaded.data, loaded.prepared)
        return loaded

    with target.writer(stat.path, stat.size) as writer:

        def write(loaded: _Loaded[P]) -> int:
            after.update(loaded.data)
            writer.write(loaded.data)
            loaded.data.release()
            buffers.give_back(loaded.whole)
            return loaded.block.size

        read_ahead = in_order(read, blocks, threads=READERS, ahead=BLOCKS_READ_AHEAD)
        hashed = in_order(hash_before, read_ahead, threads=1, ahead=BLOCKS_PER_STAGE)
        changed = in_order(apply, hashed, threads=CHANGERS, ahead=max(BLOCKS_PER_STAGE, CHANGERS))
        for count in in_order(write, changed, threads=1, ahead=BLOCKS_PER_STAGE):
            progress.add(count)
        if stat.sha256:
            _prove(source, stat, before.hexdigest())
        for seen, found in witness.found() if witness else ():
            _prove(source, seen, found)
    return ManifestFile(path=stat.path, size=stat.size, sha256=after.hexdigest())


@dataclass(frozen=True)
class _Loaded(Generic[P]):
    block: Block
    whole: bytearray
    data: memoryview
    prepared: P


@dataclass
class _Buffers:
    """Reused, since fresh memory costs a page fault for each 4 KiB."""

    free: SimpleQueue[bytearray] = field(default_factory=SimpleQueue)

    def take(self, size: int) -> bytearray:
        try:
            found = self.free.get_nowait()
        except Empty:
            found = bytearray()
        return found if len(found) >= size else bytearray(max(size, BLOCK_BYTES))

    def give_back(self, buffer: bytearray) -> None:
        self.free.put(buffer)


def _read(source: Store, stat: Stat) -> Iterator[bytearray]:
    def read(offset: int) -> bytearray:
        return source.read(stat.path, offset, min(BLOCK_BYTES, stat.size - offset))

    return in_order(read, range(0, stat.size, BLOCK_BYTES), threads=READERS, ahead=BLOCKS_READ_AHEAD)


def _prove(source: Store, stat: Stat, found: str) -> None:
    if stat.sha256 and found != stat.sha256:
        raise InvalidInput(
            Reason.CORRUPT_SOURCE,
            f"{source.describe(stat.path)} has sha256 {found}, but the store declares {stat.sha256}: upload it again",
        )
