"""Parses safetensors headers from bytes, and distrusts them.

A file is 8 bytes of little-endian header size, the header in JSON, then the tensors' bytes. A header is accepted only
if its tensors cover the file's data exactly, in one piece each, without gap or overlap, and each has the size that
its dtype and shape say. So what later reads a tensor by its offsets stays inside the file.
Pure: bytes come in, no store is known.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, NoReturn

from ftm_jobs.errors import InvalidInput, Reason

SIZE_BYTES = 8
LARGEST_HEADER_BYTES = 32 * 1024 * 1024
"""A header of 100,000 tensors has 12 MB; safetensors itself stops at 100 MB."""
LARGEST_DIMENSIONS = 16

DTYPE_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "U32": 32,
    "I32": 32,
    "U64": 64,
    "I64": 64,
    "F16": 16,
    "BF16": 16,
    "F32": 32,
    "F64": 64,
    "C64": 64,
    "F8_E4M3": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
FLOATING_DTYPES = ("F32", "F16", "BF16")
"""Dtypes of weights that can be adapted exactly."""


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """From the start of the file."""
    size: int

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    file: str
    data_offset: int
    """Position of the tensors' first byte in the file."""
    file_size: int
    tensors: Mapping[str, Tensor]
    """By name, in the order of their bytes in the file."""


def main_dtype(tensors: Iterable[Tensor]) -> str:
    """Returns the dtype that holds most bytes, the first by name where two hold the same; empty without tensors."""
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.size
    return max(sorted(sizes), key=lambda dtype: sizes[dtype], default="")


def header_size(file: str, prefix: bytes, file_size: int) -> int:
    """The header's size in bytes, from a file's first 8.

    Raises InvalidInput (InvalidSafetensors) when the file cannot hold it.
    """
    if file_size < SIZE_BYTES or len(prefix) < SIZE_BYTES:
        _refuse(file, f"has {file_size} bytes, too few for a header")
    size = int.from_bytes(prefix[:SIZE_BYTES], "little")
    if size > LARGEST_HEADER_BYTES:
        _refuse(file, f"declares a header of {size} bytes, more than {LARGEST_HEADER_BYTES}")
    if size < 2 or SIZE_BYTES + size > file_size:
        _refuse(file, f"declares a header of {size} bytes but has {file_size} bytes in all")
    return size


def parse_header(file: str, header: bytes, file_size: int) -> Header:
    """Validate `header`, the JSON without its size. `file` is how messages name the file.

    Raises InvalidInput (InvalidSafetensors) naming the file and the tensor.
    """
    entries = _load(file, header)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(file, "has a __metadata__ that is not a map of strings")
    data_offset = SIZE_BYTES + len(header)
    tensors = [_tensor(file, name, entry, data_offset) for name, entry in entries.items()]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.size))
    _check_cover(file, tensors, data_offset, file_size)
    return Header(file, data_offset, file_size, {tensor.name: tensor for tensor in tensors})


def _load(file: str, header: bytes) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    _refuse(file, f'names "{name}" twice in its header')
                seen.add(name)
        return entries

    try:
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        _refuse(file, f"has a header that is not JSON ({error})", error)
    if not isinstance(entries, dict):
        _refuse(file, "has a header that is not a JSON object")
    return entries


def _tensor(file: str, name: str, entry: Any, data_offset: int) -> Tensor:
    def refuse(text: str) -> NoReturn:
        _refuse(file, f'tensor "{name}" {text}')

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        refuse("has no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        refuse(f"has the unknown dtype {dtype!r}")
    if not isinstance(shape, list) or len(shape) > LARGEST_DIMENSIONS or not all(_is_size(size) for size in shape):
        refuse(f"has the shape {str(shape)[:100]}, not a list of at most {LARGEST_DIMENSIONS} sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(offset) for offset in offsets):
        refuse(f"has data_offsets {str(offsets)[:100]}, not a begin and an end")
    begin, end = offsets
    bits = prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        refuse(f"has {end - begin} bytes at {begin}, but {dtype} of shape {shape} needs {bits / 8:g}")
    return Tensor(name, dtype, tuple(shape), data_offset + begin, end - begin)


def _check_cover(file: str, tensors: list[Tensor], data_offset: int, file_size: int) -> None:
    end = data_offset
    for before, tensor in pairwise([None, *tensors]):
        assert tensor is not None
        if tensor.offset != end:
            after = f'the end of "{before.name}"' if before else "the header"
            how = "overlaps" if tensor.offset < end else "leaves a gap after"
            _refuse(file, f'tensor "{tensor.name}" begins at byte {tensor.offset - data_offset} and {how} {after}')
        end = tensor.offset + tensor.size
    if end != file_size:
        last = f'its last tensor "{tensors[-1].name}" ends' if tensors else "its header ends"
        problem = "it is cut short: upload it again" if end > file_size else "it has bytes that belong to no tensor"
        _refuse(file, f"has {file_size} bytes but {last} at byte {end}; {problem}")


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _refuse(file: str, text: str, cause: Exception | None = None) -> NoReturn:
    raise InvalidInput(Reason.INVALID_SAFETENSORS, f"{file} {text}") from cause
