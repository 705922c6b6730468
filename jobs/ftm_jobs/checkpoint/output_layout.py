"""Lays out what a merge writes, before the first byte: files, their tensors in order, and the source of their bytes.

Only this says how an artifact differs from its base; whoever streams knows no adapter. A tensor is either the base's
bytes as they are (no changes), the base's rows with changes applied to them in order, or made by its changes alone
(`replaced`). Vocabulary resizes, untied output layers and other sizes of shards are only different lists of files.
Pure: no bytes of tensors are seen here.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

from ftm_jobs.checkpoint.headers import DTYPE_BITS, SIZE_BYTES, Header, Tensor
from ftm_jobs.checkpoint.index import SINGLE_FILE
from ftm_jobs.errors import InvalidInput, Reason

_ALIGNMENT = 8
_HEADER_START = '{"__metadata__":{"format":"pt"}'
_FILE_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(B|[kKMGT]B|[KMGT]iB)")
_TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_EXACT_CASTS = {("BF16", "F32"), ("F16", "F32")}
_UNITS = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class TensorChange:
    """Something an adapter does to a tensor's rows; adapters/changes.py has the kinds."""

    adapter: int
    """Its place in the order of adapters, from 0; -1 for what is done to the base before any."""

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The adapter's tensors that it uses."""
        return ()

    @property
    def whole(self) -> bool:
        """True when the change needs all rows at once."""
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
    changes: tuple[TensorChange, ...] = ()
    replaced: bool = False
    """The changes make every byte: the origin's need not be read."""
    cast_from: str | None = None
    """The dtype in which its bytes are read, where it is written in another."""

    @property
    def size(self) -> int:
        return prod(self.shape) * DTYPE_BITS[self.dtype] // 8

    @property
    def read_size(self) -> int:
        """Bytes that are read for it."""
        return prod(self.shape) * DTYPE_BITS[self.cast_from or self.dtype] // 8

    @property
    def passes(self) -> bool:
        """True when its bytes are written as they are read."""
        return not self.changes and self.cast_from is None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def columns(self) -> int:
        """Columns of the matrix that changes see: all other dimensions count its rows."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        return prod(self.shape[:-1])

    @property
    def whole(self) -> bool:
        """True when its rows cannot be computed apart."""
        return any(change.whole for change in self.changes)


@dataclass(frozen=True)
class OutputFile:
    """One weight file: `header`, then the tensors' bytes without gaps."""

    name: str
    tensors: tuple[OutputTensor, ...]
    base_file: str | None
    """The base's file with the same header, byte for byte, so that offsets in it are offsets in this one."""
    data_offset: int
    """Position of the tensors' first byte in the file."""
    header: bytes = field(default=b"", repr=False)
    """Its size and its JSON; empty where it is the base file's."""

    @property
    def size(self) -> int:
        return self.data_offset + sum(tensor.size for tensor in self.tensors)

    @property
    def sources(self) -> list[str]:
        """The base files that hold its tensors, those that are replaced included, in order."""
        return list(dict.fromkeys(tensor.origin.file for tensor in self.tensors if tensor.origin))

    @property
    def changed(self) -> bool:
        """True when any byte differs from the base file's."""
        return self.base_file is None or any(tensor.changes for tensor in self.tensors)


@dataclass(frozen=True)
class OutputLayout:
    files: tuple[OutputFile, ...]
    documents: Mapping[str, bytes]
    """Other files that are not the base's bytes: an edited config.json or index."""
    dropped: frozenset[str] = frozenset()
    """Files that the base may have and the output has not."""


def base_layout(
    headers: Sequence[Header], changed: Mapping[str, OutputTensor], dropped: Collection[str] = ()
) -> list[OutputFile]:
    """Returns the base's files without `dropped`, with the tensors of `changed` in place of those of the same names.

    A file keeps its header unless a dtype or shape in it changes. A tensor that the base does not have follows those
    of the file that holds its origin or, without one, of the first file.
    """
    of_base = {name for header in headers for name in header.tensors}
    new = [tensor for name, tensor in changed.items() if name not in of_base]
    files = [_in_place(header, changed, dropped) for header in headers]
    for tensor in new:
        place = next((at for at, file in enumerate(files) if tensor.origin and file.name == tensor.origin.file), 0)
        files[place] = new_file(files[place].name, [*files[place].tensors, tensor])
    return [file for file in files if file.tensors]


def _in_place(header: Header, changed: Mapping[str, OutputTensor], dropped: Collection[str]) -> OutputFile:
    if not header.tensors.keys().isdisjoint(dropped):
        kept = [tensor for name, tensor in header.tensors.items() if name not in dropped]
        return new_file(header.file, [changed.get(tensor.name) or untouched(header.file, tensor) for tensor in kept])
    tensors = tuple(changed.get(name) or untouched(header.file, tensor) for name, tensor in header.tensors.items())
    same = all(
        (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        for found, tensor in zip(tensors, header.tensors.values(), strict=True)
    )
    if same:
        return OutputFile(header.file, tensors, header.file, header.data_offset)
    return new_file(header.file, tensors)


def new_file(name: str, tensors: Sequence[OutputTensor]) -> OutputFile:
    """Returns a file with a header of its own."""
    header = encode_header(tensors)
    return OutputFile(name, tuple(tensors), None, len(header), header)


def untouched(file: str, tensor: Tensor) -> OutputTensor:
    return OutputTensor(tensor.name, tensor.dtype, tensor.shape, Origin(file, tensor))


def in_dtype(files: Sequence[OutputFile], dtype: str) -> list[OutputFile]:
    """Returns the files with all floating tensors in `dtype`, a name of torch; a file that is in it stays as it is."""
    return [_file_in_dtype(file, dtype) for file in files]


def _file_in_dtype(file: OutputFile, dtype: str) -> OutputFile:
    tensors = tuple(_tensor_in_dtype(tensor, dtype) for tensor in file.tensors)
    return file if tensors == file.tensors else new_file(file.name, tensors)


def _tensor_in_dtype(tensor: OutputTensor, dtype: str) -> OutputTensor:
    if _TORCH_NAMES.get(tensor.dtype, dtype) == dtype:
        return tensor
    stored = next(name for name, torch_name in _TORCH_NAMES.items() if torch_name == dtype)
    return replace(tensor, dtype=stored, cast_from="F32" if tensor.replaced else tensor.dtype)


def rounding_notes(files: Sequence[OutputFile]) -> tuple[str, ...]:
    """Returns a sentence for each pair of dtypes whose cast can round: how many tensors it does so to."""
    casts = Counter(
        (tensor.cast_from, tensor.dtype) for file in files for tensor in file.tensors if tensor.cast_from is not None
    )
    return tuple(
        f"{_TORCH_NAMES[before]} → {_TORCH_NAMES[after]} rounds {count} {'tensor' if count == 1 else 'tensors'}"
        for (before, after), count in sorted(casts.items())
        if before != after and (before, after) not in _EXACT_CASTS
    )


def encode_header(tensors: Sequence[OutputTensor]) -> bytes:
    """Returns a header as the safetensors library writes it: metadata first, and spaces up to a multiple of 8 bytes."""
    parts, end = [_HEADER_START], 0
    for tensor in tensors:
        parts.append(_entry(tensor, end))
        end += tensor.size
    text = f"{','.join(parts)}}}".encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(SIZE_BYTES, "little") + text


def _entry(tensor: OutputTensor, start: int) -> str:
    entry = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, start + tensor.size]}
    return json.dumps({tensor.name: entry}, separators=(",", ":"), ensure_ascii=False)[1:-1]


def resharded(files: Sequence[OutputFile], largest: int) -> list[OutputFile]:
    """Returns the same tensors in the same order, in files of at most `largest` bytes, headers included.

    A tensor that does not fit has a file of its own.
    """
    groups = list(_groups([tensor for file in files for tensor in file.tensors], largest))
    if len(groups) == 1:
        return [new_file(SINGLE_FILE, groups[0])]
    return [
        new_file(f"model-{number:05}-of-{len(groups):05}.safetensors", group) for number, group in enumerate(groups, 1)
    ]


def _groups(tensors: Sequence[OutputTensor], largest: int) -> Iterator[list[OutputTensor]]:
    group: list[OutputTensor] = []
    text = data = 0
    for tensor in tensors:
        added = len(_entry(tensor, data).encode()) + 1
        if group and _header_size(text + added) + data + tensor.size > largest:
            yield group
            group, text, data = [], 0, 0
            added = len(_entry(tensor, data).encode()) + 1
        group.append(tensor)
        text, data = text + added, data + tensor.size
    yield group


def _header_size(entries: int) -> int:
    """Returns the size of a header whose entries and their commas have this many bytes."""
    text = len(_HEADER_START) + entries + 1
    return SIZE_BYTES + text + -text % _ALIGNMENT


def parse_file_size(text: str) -> int:
    """Returns the bytes of `5GB` (5e9), `2GiB` (2 * 2**30) and so on. Raises InvalidInput (InvalidSize)."""
    match = _FILE_SIZE.fullmatch(text)
    unit = match[2] if match else "B"
    size = int(Fraction(match[1]) * (1024 if "i" in unit else 1000) ** _UNITS[unit[0].upper()]) if match else 0
    if size < 1:
        raise InvalidInput(
            Reason.INVALID_SIZE,
            f'max-shard-size "{text[:100]}" is not a size of at least one byte: write a number and a unit, '
            "as in 5GB, 500MB or 2GiB",
        )
    return size
