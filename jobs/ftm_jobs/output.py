"""What a merge writes, decided before the first byte: files, their tensors in order, and where their bytes come from.

Only this says how an artifact differs from its base; whoever streams knows no adapter. A tensor is either the base's
bytes as they are (no changes), the base's rows with changes applied to them in order, or made by its changes alone
(`replaced`). Vocabulary resizes, untied output layers and other sizes of shards are only different lists of files.
Pure: no bytes of tensors are seen here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ftm_jobs.headers import DTYPE_BITS, SIZE_BYTES, Header, Tensor

_ALIGNMENT = 8


@dataclass(frozen=True)
class Change:
    """Something an adapter does to a tensor's rows; `kinds` has what, `arithmetic` how."""

    adapter: int
    """Its place in the order of adapters, from 0; -1 for what is done to the base before any."""

    @property
    def whole(self) -> bool:
        """It needs all rows at once."""
        return False


@dataclass(frozen=True)
class Origin:
    """A tensor's bytes in the base."""

    file: str
    tensor: Tensor


@dataclass(frozen=True)
class OutputTensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    origin: Origin | None
    """The base's tensor of this name; None for a new one."""
    changes: tuple[Change, ...] = ()
    replaced: bool = False
    """The changes make every byte: the origin's need not be read."""

    @property
    def size(self) -> int:
        return prod(self.shape) * DTYPE_BITS[self.dtype] // 8

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def columns(self) -> int:
        """Of the matrix that changes see: all other dimensions count its rows."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def whole(self) -> bool:
        """Its rows cannot be computed apart."""
        return any(change.whole for change in self.changes)


@dataclass(frozen=True)
class OutputFile:
    """One weight file: `header`, then the tensors' bytes without gaps."""

    name: str
    tensors: tuple[OutputTensor, ...]
    base_file: str | None
    """The base's file with the same header, byte for byte, so that offsets in it are offsets in this one."""
    data_offset: int
    """Where the tensors' bytes begin."""
    header: bytes = field(default=b"", repr=False)
    """Its size and its JSON; empty where it is the base file's."""

    @property
    def size(self) -> int:
        return self.data_offset + sum(tensor.size for tensor in self.tensors)

    @property
    def changed(self) -> bool:
        """Whether any byte differs from the base file's."""
        return self.base_file is None or any(tensor.changes for tensor in self.tensors)


@dataclass(frozen=True)
class Output:
    files: tuple[OutputFile, ...]
    documents: Mapping[str, bytes]
    """Other files that are not the base's bytes: an edited config.json or index."""


def base_layout(headers: Sequence[Header], changed: Mapping[str, OutputTensor]) -> list[OutputFile]:
    """The base's files, with the tensors of `changed` in place of the base's of the same names.

    A file keeps its header unless a dtype or shape in it changes. A tensor that the base does not have follows those
    of the file that holds its origin or, without one, of the first file.
    """
    known = {name for header in headers for name in header.tensors}
    new = [tensor for name, tensor in changed.items() if name not in known]
    files = [_in_place(header, changed) for header in headers]
    for tensor in new:
        place = next((at for at, file in enumerate(files) if tensor.origin and file.name == tensor.origin.file), 0)
        files[place] = new_file(files[place].name, [*files[place].tensors, tensor])
    return files


def _in_place(header: Header, changed: Mapping[str, OutputTensor]) -> OutputFile:
    tensors = tuple(changed.get(name) or untouched(header.file, tensor) for name, tensor in header.tensors.items())
    same = all(
        (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        for found, tensor in zip(tensors, header.tensors.values(), strict=True)
    )
    if same:
        return OutputFile(header.file, tensors, header.file, header.data_offset)
    return new_file(header.file, tensors)


def new_file(name: str, tensors: Sequence[OutputTensor]) -> OutputFile:
    """A file with a header of its own."""
    header = encode_header(tensors)
    return OutputFile(name, tuple(tensors), None, len(header), header)


def untouched(file: str, tensor: Tensor) -> OutputTensor:
    return OutputTensor(tensor.name, tensor.dtype, tensor.shape, Origin(file, tensor))


def encode_header(tensors: Sequence[OutputTensor]) -> bytes:
    """As the safetensors library writes it: metadata first, padded with spaces to a multiple of 8 bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + tensor.size
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(SIZE_BYTES, "little") + text
