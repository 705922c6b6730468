"""Cuts a weight file into blocks, so that it streams through bounded memory.

A block is a run of bytes of the file as it is read, about as long as the source's store reads at once. Within it,
pieces are rows of tensors that an adapter or a cast changes; all other bytes, the header included, pass as they are.
Rows are cut at multiples of `chunk_rows`, counted from the tensor's first row, so a weight's arithmetic depends neither
on where the tensor lies in the file nor on the blocks.

Offsets come in, offsets go out. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from ftm_jobs.checkpoint.output_layout import OutputFile, OutputTensor

CHUNK_BYTES = 1024 * 1024
"""Bytes of a chunk of rows in fp32: small enough for a core's cache. The matrix kernel depends on the chunk's
shape, and with this size the result equals that of whole matrices bit for bit; with 2 MiB, 2 of 1.1e9 elements
differed."""

CHUNK_MULTIPLE = 16
"""Rows that matrix kernels take together."""


@dataclass(frozen=True)
class Piece:
    """Names rows of a tensor that lie in a block."""

    tensor: OutputTensor
    first_row: int
    rows: int
    offset: int
    """Place of the first row, from the block's start."""


@dataclass(frozen=True)
class Block:
    """Names a run of bytes of a file as it is read, and the pieces in it."""

    offset: int
    """Place of its first byte in the file."""
    size: int
    pieces: tuple[Piece, ...]


def chunk_rows(tensor: OutputTensor) -> int:
    """Returns how many rows of a tensor are computed at once.

    All chunks but the last are equal, and none has fewer than CHUNK_MULTIPLE rows if that can be, however wide they
    are: few rows take another kernel, whose sums differ in the last bit.
    """
    if tensor.whole:
        return max(1, tensor.rows)
    most = max(CHUNK_MULTIPLE, CHUNK_BYTES // max(1, 4 * tensor.columns))
    most -= most % CHUNK_MULTIPLE
    chunks = -(-tensor.rows // most)
    even = -(-tensor.rows // max(1, chunks))
    step = max(1, min(most, even + -even % CHUNK_MULTIPLE))
    steps = chain(range(step, 0, -CHUNK_MULTIPLE), range(step + CHUNK_MULTIPLE, 4 * step, CHUNK_MULTIPLE))
    return next((rows for rows in steps if not _leaves_few(tensor.rows, rows)), step)


def _leaves_few(rows: int, chunk: int) -> bool:
    return rows > chunk and 0 < rows % chunk < CHUNK_MULTIPLE


def cut(file: OutputFile, block_bytes: int) -> Iterator[Block]:
    """Yields the file's blocks, in order, covering every byte once; tensors with changes have pieces."""
    offset, size = 0, 0
    pieces: list[Piece] = []
    for length, tensor, first_row in _parts(file, block_bytes):
        if size and size + length > block_bytes:
            yield Block(offset, size, tuple(pieces))
            offset, size, pieces = offset + size, 0, []
        if tensor:
            pieces.append(Piece(tensor, first_row, length // (tensor.read_size // tensor.rows), size))
        size += length
    if size:
        yield Block(offset, size, tuple(pieces))


def _parts(file: OutputFile, block_bytes: int) -> Iterator[tuple[int, OutputTensor | None, int]]:
    """Yields (bytes, tensor, first row) of runs that are not cut further; the tensor is None for bytes that pass."""
    yield from _bytes(file.data_offset, block_bytes)
    for tensor in file.tensors:
        if tensor.passes or not tensor.size:
            yield from _bytes(tensor.read_size, block_bytes)
            continue
        rows, row_bytes = tensor.rows, tensor.read_size // tensor.rows
        step = chunk_rows(tensor)
        step *= max(1, block_bytes // (step * row_bytes))
        for first in range(0, rows, step):
            yield min(step, rows - first) * row_bytes, tensor, first


def _bytes(size: int, block_bytes: int) -> Iterator[tuple[int, None, int]]:
    for start in range(0, size, block_bytes):
        yield min(block_bytes, size - start), None, 0
