"""Lays files out in the layers of an image, as tar archives that are not compressed.

Weights do not get smaller by compression, and what is not compressed need not be unpacked before it is used. The same
files give the same bytes: no times, no owners, a fixed order. A layer's bytes are never held: they are made from blocks
of the files while they are read.
"""

import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ftm_jobs.contract.byte_counts import GIB
from ftm_jobs.contract.manifest import ManifestFile
from ftm_jobs.errors import InvalidInput, Reason

LARGEST_LAYER_BYTES = 10 * 1000**3 - 1
"""GitHub's registry takes layers below 10 GB; others take larger ones."""
FULL_LAYER_BYTES = 2 * GIB
"""A layer with so much in it gets no more files. Nodes pull several layers at once."""
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


@dataclass(frozen=True)
class Layer:
    """The files of one layer, in their order."""

    files: tuple[ManifestFile, ...]

    @cached_property
    def size(self) -> int:
        """Returns the bytes of the archive."""
        headers = sum(len(header) for header in _folder_headers(self.files))
        return headers + sum(_archived_bytes(file) for file in self.files) + len(_END)

    def blocks(self, content: Callable[[ManifestFile], Iterator[bytes | bytearray]]) -> Iterator[bytes | bytearray]:
        """Yields the archive; `content` yields a file's bytes."""
        yield from _folder_headers(self.files)
        for file in self.files:
            yield _header(file.path, file.size)
            yield from content(file)
            yield bytes(-file.size % _BLOCK)
        yield _END


def layers(files: Sequence[ManifestFile]) -> list[Layer]:
    """Returns the layers of an image with these files, by their paths. Raises InvalidInput (InvalidSize)."""
    laid_out: list[list[ManifestFile]] = []
    filled = FULL_LAYER_BYTES
    for file in sorted(files, key=lambda each: each.path):
        if Layer((file,)).size > LARGEST_LAYER_BYTES:
            raise InvalidInput(
                Reason.INVALID_SIZE,
                f"{file.path} has {file.size} bytes, and registries take layers below 10 GB: remove "
                "spec.artifacts.oci, or take a base that is stored in smaller files",
            )
        if filled + file.size > FULL_LAYER_BYTES:
            laid_out.append([])
            filled = 0
        laid_out[-1].append(file)
        filled += file.size
    return [Layer(tuple(each)) for each in laid_out]


def _archived_bytes(file: ManifestFile) -> int:
    return len(_header(file.path, file.size)) + file.size + -file.size % _BLOCK


def _folder_headers(files: Sequence[ManifestFile]) -> list[bytes]:
    """Returns headers of all folders that the files are in, the outer ones first."""
    paths = {
        "/".join(parts[:depth]) for file in files for parts in [file.path.split("/")] for depth in range(1, len(parts))
    }
    return [_header(path, 0, folder=True) for path in sorted(paths)]


def _header(path: str, size: int, *, folder: bool = False) -> bytes:
    entry = tarfile.TarInfo(path)
    entry.size = size
    entry.mode = 0o755 if folder else 0o644
    entry.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
