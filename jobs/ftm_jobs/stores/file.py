"""Reads and writes a folder on the local disk, or in a claim that is mounted into a Job.

Files appear by rename, so a killed writer leaves only a `.*.partial`. Nothing is synced to the disk: what a power cut
loses is found by its sha256 when it is read. A file is identified by its bytes, as in every store that declares a
sha256, so that a model has the same key wherever it is; one that changes after it was hashed is noticed.
"""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.runtime.os_errors import explain
from ftm_jobs.stores.digests import is_remembered, sha256_of_file
from ftm_jobs.stores.interface import UNKNOWN, Buffer, Stat, Store, WritableStore, Writer

_PARTIAL = ".partial"


class FileStore(WritableStore):
    block_bytes = 3 * 512 * 1024
    """Small enough to stay in a processor's cache while it is read, changed, hashed and written."""
    readers = 0
    """The kernel reads ahead."""

    def __init__(self, root: str | Path, uri: str | None = None, *, hashed: bool = True) -> None:
        """`uri` names the folder where its path is not what a person knows it by."""
        self.root = Path(root)
        self.uri = uri or self.root.as_uri()
        self._named = uri is not None
        self._hashed = hashed
        self._known: dict[str, tuple[int, int, int]] = {}

    def list(self) -> dict[str, int]:
        with _scanned(self.root, self.uri) as entries:
            return {e.name: e.stat().st_size for e in entries if e.is_file() and not e.name.endswith(_PARTIAL)}

    def folders(self) -> set[str]:
        with _scanned(self.root, self.uri) as entries:
            return {entry.name for entry in entries if entry.is_dir()}

    def list_folder(self, name: str) -> dict[str, int]:
        return {f"{name}/{path}": size for path, size in _files_below(self.root / name, self.describe(name)).items()}

    def stat(self, path: str) -> Stat:
        try:
            if not self._hashed and not is_remembered(self.root / path):
                return Stat(path, (self.root / path).stat().st_size, UNKNOWN)
            status, digest = sha256_of_file(self.root / path)
        except OSError as error:
            raise explain(error, self.describe(path)) from error
        self._known[path] = _version(status)
        return Stat(path, status.st_size, f"sha256:{digest}", sealed=True)

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        done = 0
        try:
            descriptor = os.open(self.root / path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._check_version(path, descriptor)
                while done < len(buffer):
                    count = os.preadv(descriptor, [buffer[done:]], offset + done)
                    if not count:
                        raise InvalidInput(
                            Reason.SOURCE_CHANGED,
                            f"{self.describe(path)} ends at byte {offset + done} of {offset + len(buffer)}: "
                            "it was cut while it was read",
                        )
                    done += count
            finally:
                os.close(descriptor)
        except OSError as error:
            raise explain(error, self.describe(path)) from error

    def _check_version(self, path: str, descriptor: int) -> None:
        if path in self._known and self._known[path] != _version(os.fstat(descriptor)):
            raise InvalidInput(
                Reason.SOURCE_CHANGED, f"{self.describe(path)} was changed while it was read: run it again"
            )

    def child(self, name: str) -> "FileStore":
        return FileStore(self.root / name, f"{self.uri}/{name}" if self._named else None)

    def children(self) -> set[str]:
        with _scanned(self.root, self.uri) as entries:
            return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}

    def last_written(self) -> datetime | None:
        try:
            with os.scandir(self.root) as entries:
                times = [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
                return datetime.fromtimestamp(max(times, default=self.root.stat().st_mtime), UTC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain(error, self.uri) from error

    @contextmanager
    def writer(self, path: str, size: int) -> Iterator[Writer]:  # noqa: ARG002 - a folder needs no parts
        with self._appearing(path) as partial, closing(_FileWriter(partial)) as writer:
            yield writer

    def copier(self, source: Store, stat: Stat) -> AbstractContextManager[Writer] | None:
        """The file system shares blocks where it can (XFS, Btrfs, NFS), else copies beneath this process."""
        if not isinstance(source, FileStore) or stat.path not in source._known:
            return None
        return self._copying(source, stat.path)

    @contextmanager
    def _copying(self, source: "FileStore", path: str) -> Iterator[Writer]:
        with self._appearing(path) as partial, (source.root / path).open("rb", buffering=0) as original:
            source._check_version(path, original.fileno())
            with closing(_FileCopier(partial, original.fileno())) as copier:
                yield copier
            source._check_version(path, original.fileno())

    @contextmanager
    def _appearing(self, path: str) -> Iterator[Path]:
        """Yields a path to write to: it becomes the file `path` when the block ends well, else it is removed."""
        partial = _partial(self.root / path)
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(self.root / path)
        except OSError as error:
            raise explain(error, self.describe(path)) from error
        finally:
            _remove(partial, self.root)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        partial = _partial(self.root / path)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            os.link(partial, self.root / path)
        except FileExistsError:
            return False
        except OSError as error:
            raise explain(error, self.describe(path)) from error
        finally:
            _remove(partial, self.root)
        return True

    def put(self, path: str, data: bytes) -> None:
        with self.writer(path, len(data)) as writer:
            writer.write(data)

    def delete(self, path: str) -> None:
        try:
            (self.root / path).unlink(missing_ok=True)
        except OSError as error:
            raise explain(error, self.describe(path)) from error
        _remove(self.root / path, self.root)

    def abort_uploads(self) -> int:
        left = list(self.root.glob(f".*{_PARTIAL}"))
        for partial in left:
            with suppress(OSError):
                partial.unlink()
        return len(left)


def _partial(whole: Path) -> Path:
    return whole.with_name(f".{whole.name}.{secrets.token_hex(4)}{_PARTIAL}")


def _remove(path: Path, root: Path) -> None:
    """Removes the file, and the folders up to `root` that are empty then, as object stores have no empty folders."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
        for folder in path.parents:
            folder.rmdir()
            if folder == root:
                break


@contextmanager
def _scanned(folder: Path, label: str) -> Iterator[Iterable[os.DirEntry[str]]]:
    """Yields the entries of a folder; none where there is no such folder."""
    try:
        scanned = os.scandir(folder)
    except FileNotFoundError:
        yield ()
        return
    except OSError as error:
        raise explain(error, label) from error
    with scanned:
        try:
            yield scanned
        except OSError as error:
            raise explain(error, label) from error


def _files_below(folder: Path, label: str) -> dict[str, int]:
    """Returns sizes of the files in a folder and below, by their paths from it."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise explain(error, label) from error

    walked = os.walk(folder, onerror=refuse)
    paths = [Path(place, file) for place, _, files in walked for file in files if not file.endswith(_PARTIAL)]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths if path.is_file()}


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


class _FileWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        while len(view):
            view = view[self._file.write(view) :]

    def close(self) -> None:
        self._file.close()


class _FileCopier(_FileWriter):
    """Copies beneath this process as much as is written to it, and writes that where the file system cannot."""

    def __init__(self, path: Path, original: int) -> None:
        super().__init__(path)
        self._original = original
        self._done = 0

    def write(self, data: Buffer) -> None:
        copied = 0
        with suppress(OSError):  # other file systems, or old ones
            while count := os.copy_file_range(
                self._original, self._file.fileno(), len(data) - copied, offset_src=self._done + copied
            ):
                copied += count
        super().write(memoryview(data)[copied:])
        self._done += len(data)
