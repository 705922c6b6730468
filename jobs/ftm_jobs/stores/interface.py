"""Defines what every store can do. A store is one folder: a base model, an adapter or an artifact.

A file is named by its path from that folder. Files in folders of it are listed only where they are asked for.

Implementations translate their client's errors into InvalidInput or Failed, retry what may pass a bounded number of
times, and are safe to use from several threads.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

UNKNOWN = "unknown:"
"""The identity of a local file that was not to be hashed."""
Buffer = bytes | bytearray | memoryview
PIECE_BYTES = 1024 * 1024
"""Few enough to be in the processor's cache still when they are written or hashed."""


@dataclass(frozen=True)
class Stat:
    path: str
    size: int
    identity: str
    """`sha256:<hex>` when the store declares it or it is cheap to know, else `etag:<etag>`."""
    sealed: bool = False
    """The identity was computed from the bytes, and the store refuses to read them once the file is changed: what is
    read need not be hashed again."""

    @property
    def sha256(self) -> str | None:
        """In hex, when known."""
        kind, _, value = self.identity.partition(":")
        return value if kind == "sha256" else None


class Writer(Protocol):
    def write(self, data: Buffer) -> None:
        """Appends; `data` may be reused once this returns."""


class NotCopied(Exception):
    """A store would not copy a file by itself; its text says why. The bytes can still be streamed."""


class Store(ABC):
    """A folder to read from."""

    uri: str
    """Resolved: an hf:// URI carries the commit."""
    block_bytes = 8 * 1024 * 1024
    """Bytes to read at once, by a request of its own."""
    readers = 4
    """Threads that may wait for such requests beside those that compute."""

    @abstractmethod
    def list(self) -> dict[str, int]:
        """Returns sizes by name of the files directly in the folder; empty when there is no such folder.

        Raises InvalidInput (AccessDenied, BucketNotFound) and Failed.
        """

    @abstractmethod
    def folders(self) -> set[str]:
        """Returns the names of the folders in this one that hold files. Raises as `list`."""

    @abstractmethod
    def list_folder(self, name: str) -> dict[str, int]:
        """Returns sizes of all files below the folder `name`, by their paths, which begin with it. Raises as `list`."""

    @abstractmethod
    def stat(self, path: str) -> Stat:
        """Returns size and identity of a listed file, without reading all of it unless the store is the local disk."""

    @abstractmethod
    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` with the file's bytes from `offset`; never fewer.

        Raises InvalidInput (SourceChanged) when the file is not the one that was listed, else Failed.
        """

    def read_pieces(self, path: str, offset: int, size: int, take: Callable[[memoryview], None]) -> None:
        """Gives `take` a range of the file in order, in pieces that it may not keep, as they arrive.

        Raises as `read_into`, and what `take` raises.
        """
        take(memoryview(self.read(path, offset, size)))

    def read(self, path: str, offset: int, size: int) -> bytearray:
        buffer = bytearray(size)
        self.read_into(path, offset, memoryview(buffer))
        return buffer

    def describe(self, path: str) -> str:
        """Returns the file's name for a message."""
        return f"{self.uri}/{path}"


class WritableStore(Store):
    @abstractmethod
    def child(self, name: str) -> "WritableStore":
        """Returns the folder `name` in this one; it need not exist."""

    @abstractmethod
    def children(self) -> set[str]:
        """Returns the names of the folders in this one, those that hold only unfinished uploads included."""

    @abstractmethod
    def last_written(self) -> datetime | None:
        """Returns when a file or an unfinished upload in this folder was last written; None when there is none."""

    @abstractmethod
    def writer(self, path: str, size: int) -> AbstractContextManager[Writer]:
        """Streams `size` bytes to `path`, in parts.

        The file appears when the block ends well; when it ends by an exception, nothing is left of it.
        """

    def copier(self, source: Store, stat: Stat) -> AbstractContextManager[Writer] | None:  # noqa: ARG002
        """As `writer`, but the store takes the bytes from `source` itself; None where it cannot.

        What is written says how far the caller has read and hashed the file, and may be ignored. The block raises
        NotCopied where the store refuses after all, and InvalidInput (SourceChanged) where it sees that the file is
        not the one that was listed; nothing is left of the copy then.
        """
        return None

    @abstractmethod
    def put_if_absent(self, path: str, data: bytes) -> bool:
        """Writes a small file in one step unless it exists; returns False when it does."""

    @abstractmethod
    def put(self, path: str, data: bytes) -> None:
        """Writes a small file in one step, over what is there."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Removes a file; none there is no error."""

    @abstractmethod
    def abort_uploads(self) -> int:
        """Removes what killed writers left in this folder, and returns their number."""
