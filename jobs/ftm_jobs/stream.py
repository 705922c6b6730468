"""Streams one file from a store to another in blocks, changing rows on the way and hashing both sides.

Memory is bounded by the blocks in flight, whatever the file's size. The file appears in the target only if the bytes
that were read have the sha256 that the source declares.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from ftm_jobs.contract import ManifestFile
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.layout import Block
from ftm_jobs.pipeline import Stage, through
from ftm_jobs.progress import Progress
from ftm_jobs.stores import NotCopied, Stat, Store, WritableStore, Writer

PROCESSORS = min(4, len(os.sched_getaffinity(0)))
"""More do not help: the bytes of a file are hashed one after the other."""
BLOCKS_AHEAD = 6
"""With fewer, threads wait for each other; with more, blocks leave the processors' cache before they are written."""

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

        def write(data: memoryview) -> None:
            writer.write(data)
            count(len(data))

        hashed = [Stage[memoryview](digest.update, ordered=True)] if digest else []
        _read(source, stat, *hashed, Stage(write, ordered=True))
        if digest:
            _prove(source, stat, digest.hexdigest())
    sha256 = digest.hexdigest() if digest else stat.sha256
    assert sha256
    return ManifestFile(path=stat.path, size=stat.size, sha256=sha256)


def sha256_of(store: Store, path: str, size: int, progress: Progress) -> str:
    """Of the file's bytes, read once."""
    digest = hashlib.sha256()

    def see(data: memoryview) -> None:
        digest.update(data)
        progress.add(len(data))

    _read(store, Stat(path, size, ""), Stage(see, ordered=True))
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
    with target.writer(stat.path, stat.size) as writer:

        def write(loaded: _Loaded[P]) -> None:
            writer.write(loaded.data)
            rewriting.reuse(loaded)
            progress.add(loaded.block.size)

        seen = [] if stat.sealed else [Stage(rewriting.see, ordered=True)]
        changed = [Stage(rewriting.apply), Stage(rewriting.hash, ordered=True), Stage(write, ordered=True)]
        through(blocks, rewriting.read, [*seen, *changed], **_at_once(source))
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
        self._buffers = _Buffers(source.block_bytes)

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
            _prove(self._source, self._stat, self._before.hexdigest())
        for stat, found in self._witness.found() if self._witness else ():
            _prove(self._source, stat, found)


@dataclass
class _Buffers:
    """Reused, since fresh memory costs a page fault for each 4 KiB."""

    smallest: int
    free: SimpleQueue[bytearray] = field(default_factory=SimpleQueue)

    def take(self, size: int) -> memoryview:
        try:
            found = self.free.get_nowait()
        except Empty:
            found = bytearray()
        if len(found) < size:
            found = bytearray(max(size, self.smallest))
        return memoryview(found)[:size]

    def give_back(self, data: memoryview) -> None:
        assert isinstance(data.obj, bytearray)
        self.free.put(data.obj)
        data.release()


def _read(source: Store, stat: Stat, *stages: Stage[memoryview]) -> None:
    """The file's bytes through the stages, in blocks."""
    buffers = _Buffers(source.block_bytes)

    def read(offset: int) -> memoryview:
        data = buffers.take(min(source.block_bytes, stat.size - offset))
        source.read_into(stat.path, offset, data)
        return data

    offsets = range(0, stat.size, source.block_bytes)
    through(offsets, read, [*stages, Stage(buffers.give_back)], **_at_once(source))


def _at_once(source: Store) -> dict[str, int]:
    threads = PROCESSORS + source.readers
    return {"threads": threads, "ahead": max(BLOCKS_AHEAD, threads + 2)}


def _prove(source: Store, stat: Stat, found: str) -> None:
    if stat.sha256 and found != stat.sha256:
        raise InvalidInput(
            Reason.CORRUPT_SOURCE,
            f"{source.describe(stat.path)} has sha256 {found}, but the store declares {stat.sha256}: upload it again",
        )
