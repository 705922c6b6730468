"""Streams one file from a store to another in blocks, hashing what is read.

Memory is bounded by the blocks in flight, whatever the file's size. The file appears in the target only if the bytes
that were read have the sha256 that the source declares.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.pipeline import Stage, through
from ftm_jobs.runtime.progress import Progress
from ftm_jobs.stores import NotCopied, Stat, Store, WritableStore, Writer

_LOG = logging.getLogger(__name__)

PROCESSORS = min(4, len(os.sched_getaffinity(0)))
"""More do not help: the bytes of a file are hashed one after the other."""
BLOCKS_AHEAD = 6
"""With fewer, threads wait for each other; with more, blocks leave the processors' cache before they are written."""


def copy(
    source: Store, stat: Stat, target: WritableStore, progress: Progress, *, readers: int | None = None
) -> ManifestFile:
    """Copies the file as it is. Raises InvalidInput (CorruptSource, SourceChanged) and what stores raise.

    `readers` is as for `read_through`.

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
            return _copy(source, stat, copier, count, readers)
        except NotCopied as refusal:
            _LOG.warning("%s: %s; it is streamed instead", target.describe(stat.path), refusal)
            progress.add(-read)
    return _copy(source, stat, target.writer(stat.path, stat.size), progress.add, readers)


def _copy(
    source: Store,
    stat: Stat,
    target: AbstractContextManager[Writer],
    count: Callable[[int], None],
    readers: int | None,
) -> ManifestFile:
    digest = None if stat.sealed else hashlib.sha256()
    with target as writer:

        def write(data: memoryview) -> None:
            writer.write(data)
            count(len(data))

        hashed = [Stage[memoryview](digest.update, ordered=True)] if digest else []
        read_through(source, stat, [*hashed, Stage(write, ordered=True)], readers=readers)
        if digest:
            check_sha256(source, stat, digest.hexdigest())
    sha256 = digest.hexdigest() if digest else stat.sha256
    assert sha256
    return ManifestFile(path=stat.path, size=stat.size, sha256=sha256)


def sha256_of(store: Store, path: str, size: int, progress: Progress) -> str:
    """Returns the sha256, in hex, of the file's bytes, which are read once."""
    digest = hashlib.sha256()

    def see(data: memoryview) -> None:
        digest.update(data)
        progress.add(len(data))

    read_through(store, Stat(path, size, ""), [Stage(see, ordered=True)])
    return digest.hexdigest()


def prove(source: Store, stat: Stat, progress: Progress) -> None:
    """Reads the file and compares it with the sha256 that the source declares, if it does."""
    if stat.sealed:
        progress.add(stat.size)
    elif stat.sha256:
        check_sha256(source, stat, sha256_of(source, stat.path, stat.size, progress))


@dataclass
class Buffers:
    """Reused, since fresh memory costs a page fault for each 4 KiB."""

    smallest: int
    free: SimpleQueue[bytearray] = field(default_factory=SimpleQueue)

    def take(self, size: int) -> memoryview:
        try:
            buffer = self.free.get_nowait()
        except Empty:
            buffer = bytearray()
        if len(buffer) < size:
            buffer = bytearray(max(size, self.smallest))
        return memoryview(buffer)[:size]

    def give_back(self, data: memoryview) -> None:
        assert isinstance(data.obj, bytearray)
        self.free.put(data.obj)
        data.release()


def read_through(source: Store, stat: Stat, stages: Sequence[Stage[memoryview]], *, readers: int | None = None) -> None:
    """Sends the file's bytes through the stages, in blocks.

    `readers` is how many ranges are read at once, where the source says otherwise; never of a local file.
    """
    buffers = Buffers(source.block_bytes)

    def read(offset: int) -> memoryview:
        data = buffers.take(min(source.block_bytes, stat.size - offset))
        source.read_into(stat.path, offset, data)
        return data

    offsets = range(0, stat.size, source.block_bytes)
    through(offsets, read, [*stages, Stage(buffers.give_back)], **at_once(source, readers))


def at_once(source: Store, readers: int | None = None) -> dict[str, int]:
    if readers and source.readers:
        return {"threads": readers + 1, "ahead": readers + 2}
    threads = PROCESSORS + source.readers
    return {"threads": threads, "ahead": max(BLOCKS_AHEAD, threads + 2)}


def check_sha256(source: Store, stat: Stat, sha256: str) -> None:
    if stat.sha256 and sha256 != stat.sha256:
        raise InvalidInput(
            Reason.CORRUPT_SOURCE,
            f"{source.describe(stat.path)} has sha256 {sha256}, but the store declares {stat.sha256}: upload it again",
        )
