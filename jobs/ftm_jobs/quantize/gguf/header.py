"""Reads a GGUF file's header: metadata and tensors without their weights; nothing in it is trusted.

A file is a magic, a version, two counts, the metadata, the tensors' names, shapes, types and offsets, then their bytes,
aligned. Lists, a vocabulary's tokens above all, are walked over; only their kind and length are kept.
Source of the format: docs/gguf.md of ggml.

The GGUFReader of llama.cpp's own package `gguf` was tried. It builds an array for every token (238 MB where this takes
5), needs numpy, bounds no count that a file declares, and answers a file that is cut short with numpy's errors.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ftm_jobs.quantize.gguf.file_types import STORAGE_BY_ID, Weight, stored_bytes

MAGIC = b"GGUF"
VERSION = 3
DEFAULT_ALIGNMENT = 32
LARGEST_COUNT = 1_000_000
LARGEST_STRING_BYTES = 64 * 1024 * 1024
LARGEST_DIMENSIONS = 4

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class InvalidGguf(Exception):
    """The file is no GGUF file, or not a whole one; says why."""


@dataclass(frozen=True)
class MetadataList:
    """A list in the metadata."""

    count: int


@dataclass(frozen=True)
class GgufTensor:
    weight: Weight
    type_id: int

    @property
    def storage(self) -> str:
        """Returns ggml's name of the type; a number for a type that is not listed here."""
        storage = STORAGE_BY_ID.get(self.type_id)
        return storage.name if storage else f"type {self.type_id}"


@dataclass(frozen=True)
class GgufHeader:
    metadata: Mapping[str, bool | int | float | str | MetadataList]
    tensors: Mapping[str, GgufTensor]
    data_offset: int = 0
    """Offset of the tensors' bytes in the file."""

    @property
    def weights(self) -> dict[str, Weight]:
        return {name: tensor.weight for name, tensor in self.tensors.items()}

    def number(self, key: str) -> float | None:
        """Returns a number of the metadata; `key` is without the architecture's name before it."""
        value = self.metadata.get(f"{self.metadata.get('general.architecture')}.{key}")
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_gguf(path: Path) -> GgufHeader:
    """Raises InvalidGguf when the file is malformed or ends before its last tensor."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise InvalidGguf("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(_Reader(data))
            except (struct.error, UnicodeDecodeError) as error:
                raise InvalidGguf(f"its header is cut short or malformed ({error})") from error


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.offset = 0

    def scalar(self, code: str) -> bool | int | float:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.offset)
        self.skip(struct.calcsize(f"<{code}"))
        result: bool | int | float = value
        return result

    def count(self, label: str, largest: int = LARGEST_COUNT) -> int:
        number = int(self.scalar("Q"))
        if number > largest:
            raise InvalidGguf(f"it declares {number} {label}")
        return number

    def string(self) -> str:
        length = self.count("bytes of a string", LARGEST_STRING_BYTES)
        start = self.offset
        self.skip(length)
        return self.data[start : self.offset].decode("utf-8")

    def skip(self, count: int) -> None:
        self.offset += count
        if self.offset > len(self.data):
            raise InvalidGguf(f"it has {len(self.data)} bytes, and its header goes on")

    def value(self, kind: int) -> bool | int | float | str | MetadataList:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._list()
        if kind not in _SCALARS:
            raise InvalidGguf(f"its metadata has a value of the unknown kind {kind}")
        return self.scalar(_SCALARS[kind])

    def _list(self) -> MetadataList:
        kind, length = int(self.scalar("I")), self.count("values of a list", 16 * LARGEST_COUNT)
        if kind == _STRING:
            for _ in range(length):
                self.skip(self.count("bytes of a string", LARGEST_STRING_BYTES))
        elif kind in _SCALARS:
            self.skip(length * struct.calcsize(f"<{_SCALARS[kind]}"))
        else:
            raise InvalidGguf(f"its metadata has a list of the unknown kind {kind}")
        return MetadataList(length)


def _parse(reader: _Reader) -> GgufHeader:
    if reader.data[: len(MAGIC)] != MAGIC:
        raise InvalidGguf("it does not begin as a GGUF file does")
    reader.skip(len(MAGIC))
    version = reader.scalar("I")
    if version != VERSION:
        raise InvalidGguf(f"it has version {version}, not {VERSION}")
    tensor_count, value_count = reader.count("tensors"), reader.count("values")
    metadata: dict[str, bool | int | float | str | MetadataList] = {}
    for _ in range(value_count):
        key = reader.string()
        metadata[key] = reader.value(int(reader.scalar("I")))
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= 2**20:
        raise InvalidGguf(f"it has the alignment {alignment}")
    tensors: dict[str, GgufTensor] = {}
    ends: dict[str, int] = {}
    for _ in range(tensor_count):
        tensor, offset = _tensor(reader)
        name = tensor.weight.name
        if name in tensors:
            raise InvalidGguf(f'it names the tensor "{name}" twice')
        tensors[name] = tensor
        storage = STORAGE_BY_ID.get(tensor.type_id)
        ends[name] = offset + (stored_bytes(tensor.weight, storage) if storage else 0)
    begin = -(-reader.offset // alignment) * alignment
    if ends:
        last = max(ends, key=lambda name: ends[name])
        if begin + ends[last] > len(reader.data):
            raise InvalidGguf(f'it has {len(reader.data)} bytes, and its tensor "{last}" ends at {begin + ends[last]}')
    return GgufHeader(metadata, tensors, begin)


def _tensor(reader: _Reader) -> tuple[GgufTensor, int]:
    """Returns a tensor, and the offset of its bytes from the first tensor's."""
    name = reader.string()
    dimensions = int(reader.scalar("I"))
    if dimensions > LARGEST_DIMENSIONS:
        raise InvalidGguf(f'its tensor "{name}" has {dimensions} dimensions')
    shape = tuple(reader.count("rows or columns", 2**40) for _ in range(dimensions))
    if prod(shape) >= 2**50:
        raise InvalidGguf(f'its tensor "{name}" has the shape {shape}')
    type_id, offset = int(reader.scalar("I")), reader.count("bytes", 2**50)
    return GgufTensor(Weight(name, tuple(reversed(shape))), type_id), offset
