"""A weight file that does not exist yet, read as if it did: a new header, and tensors wherever they lie in the base.

So whoever streams a file of the base streams this one the same way. What changes will make reads as zeros.
"""

from bisect import bisect_right
from itertools import accumulate

from ftm_jobs.output import OutputFile
from ftm_jobs.stores import Stat, Store


class ComposedFile(Store):
    """Only `read_into` and `stat` mean anything, and only for the one file."""

    def __init__(self, base: Store, file: OutputFile) -> None:
        self.uri = base.uri
        self._base = base
        self._file = file
        sizes = [file.data_offset, *(tensor.size for tensor in file.tensors)]
        self._starts = [0, *accumulate(sizes)]

    def list(self) -> dict[str, int]:
        return {self._file.name: self._file.size}

    def stat(self, path: str) -> Stat:
        return Stat(path, self._file.size, "composed:")

    def read_into(self, path: str, offset: int, buffer: memoryview) -> None:
        assert path == self._file.name
        done = 0
        while done < len(buffer):
            part = bisect_right(self._starts, offset + done) - 1
            within = offset + done - self._starts[part]
            size = min(len(buffer) - done, self._starts[part + 1] - self._starts[part] - within)
            self._read_part(part, within, buffer[done : done + size])
            done += size

    def _read_part(self, part: int, offset: int, buffer: memoryview) -> None:
        if part == 0:
            buffer[:] = self._file.header[offset : offset + len(buffer)]
            return
        tensor = self._file.tensors[part - 1]
        if tensor.replaced or tensor.origin is None:
            buffer[:] = bytes(len(buffer))
            return
        self._base.read_into(tensor.origin.file, tensor.origin.tensor.offset + offset, buffer)
