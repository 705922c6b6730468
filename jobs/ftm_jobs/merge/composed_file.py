"""Reads a weight file that does not exist yet: a new header, and tensors wherever they lie in the base.

It is streamed like a file of the base. A tensor that changes will make whole reads as zeros, and one that is written in
another dtype reads in the base's.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

from ftm_jobs.checkpoint.output_layout import Origin, OutputFile
from ftm_jobs.checkpoint.sources import StoredBase
from ftm_jobs.stores import Stat, Store


class ComposedFile(Store):
    """Serves the one file as a store does."""

    def __init__(self, base: StoredBase, file: OutputFile) -> None:
        self.uri = base.store.uri
        self.block_bytes, self.readers = base.store.block_bytes, base.store.readers
        self._base = base.store
        self._file = file
        self._sealed = all(base.stats[name].sealed for name in file.sources)
        sizes = [file.data_offset, *(tensor.read_size for tensor in file.tensors)]
        self._starts = [0, *accumulate(sizes)]

    def list(self) -> dict[str, int]:
        return {self._file.name: self._file.size}

    def folders(self) -> set[str]:
        return set()

    def list_folder(self, name: str) -> dict[str, int]:  # noqa: ARG002 - there is none
        return {}

    def stat(self, path: str) -> Stat:
        return Stat(path, self._file.size, "composed:", self._sealed)

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        assert path == self._file.name
        for part, within, place in self._parts(offset, len(buffer)):
            self._read_part(part, within, buffer[place])

    def from_base(self, offset: int, size: int) -> Iterator[tuple[str, int, slice]]:
        """Yields the parts of a range that are read from the base: file, offset there, and place in the range."""
        for part, within, place in self._parts(offset, size):
            origin = self._origin(part)
            if origin:
                yield origin.file, origin.tensor.offset + within, place

    def _parts(self, offset: int, size: int) -> Iterator[tuple[int, int, slice]]:
        """Yields a range's parts: their number (0 is the header), the offset in each, and the place in the range."""
        done = 0
        while done < size:
            part = bisect_right(self._starts, offset + done) - 1
            within = offset + done - self._starts[part]
            count = min(size - done, self._starts[part + 1] - self._starts[part] - within)
            yield part, within, slice(done, done + count)
            done += count

    def _origin(self, part: int) -> Origin | None:
        if part == 0 or self._file.tensors[part - 1].replaced:
            return None
        return self._file.tensors[part - 1].origin

    def _read_part(self, part: int, offset: int, buffer: memoryview) -> None:
        if part == 0:
            buffer[:] = self._file.header[offset : offset + len(buffer)]
            return
        origin = self._origin(part)
        if origin is None:
            buffer[:] = bytes(len(buffer))
            return
        self._base.read_into(origin.file, origin.tensor.offset + offset, buffer)
