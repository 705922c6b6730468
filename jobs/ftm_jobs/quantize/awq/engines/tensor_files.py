"""Reads a model's weights tensor by tensor, an MLP padded, and writes a quantized model's tensor by tensor.

Neither holds more than the tensor at hand. Files are read through the page cache. They are written at offsets that are
known before the first byte, since a quantized tensor's size follows from its shape.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import safe_open

from ftm_jobs.checkpoint.headers import DTYPE_BITS
from ftm_jobs.checkpoint.index import INDEX_FILE
from ftm_jobs.checkpoint.output_layout import OutputFile, OutputTensor, new_file, resharded
from ftm_jobs.errors import Failed, Reason
from ftm_jobs.quantize.awq.layout import AwqLayout

LARGEST_FILE_BYTES = 5_000_000_000
DTYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.int32: "I32"}


class PaddedWeights:
    """Reads the tensors of a model's safetensors files by name, in the layout's shapes."""

    def __init__(self, model: Path, files: Sequence[str], layout: AwqLayout) -> None:
        self._layout = layout
        self._file_of: dict[str, Any] = {}
        for name in files:
            opened: Any = safe_open(str(model / name), framework="pt")
            self._file_of.update(dict.fromkeys(opened.keys(), opened))

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def names(self) -> Iterable[str]:
        return self._file_of.keys()

    def read(self, name: str) -> torch.Tensor:
        """Returns the tensor as it is stored, padded with zeros. It must not be changed in place."""
        tensor: torch.Tensor = self._file_of[name].get_tensor(name)
        shape = self._layout.padded_shape(name, tuple(tensor.shape))
        if shape == tuple(tensor.shape):
            return tensor
        if not self._layout.halves(name):
            return _padded(tensor, shape)
        gate, up = tensor.chunk(2)
        half = (shape[0] // 2, *shape[1:])
        return torch.cat([_padded(gate, half), _padded(up, half)])

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of what `read` returns."""
        return self._layout.padded_shape(name, tuple(self._file_of[name].get_slice(name).get_shape()))

    def dtype(self, name: str) -> str:
        dtype: str = self._file_of[name].get_slice(name).get_dtype()
        return dtype

    def stored_bytes(self, name: str) -> int:
        """Returns the tensor's bytes in the file, without the padding."""
        shape: list[int] = self._file_of[name].get_slice(name).get_shape()
        return prod(shape) * DTYPE_BITS[self.dtype(name)] // 8


def _padded(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    whole = tensor.new_zeros(tuple(shape))
    whole[tuple(slice(size) for size in tensor.shape)] = tensor
    return whole


class TensorWriter:
    """Writes the weight files of a folder: each tensor once, in any order. Raises Failed for one that is left out."""

    def __init__(self, folder: Path, tensors: Sequence[OutputTensor], largest: int = LARGEST_FILE_BYTES) -> None:
        self._files = resharded([new_file("", tensors)], largest)
        self._places: dict[str, tuple[int, int, OutputTensor]] = {}
        self._missing: set[str] = set()
        self._descriptors: list[int] = []
        for file in self._files:
            self._descriptors.append(os.open(folder / file.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
            self._begin(file)
        if len(self._files) > 1:
            (folder / INDEX_FILE).write_bytes(_index(self._files))

    def _begin(self, file: OutputFile) -> None:
        descriptor = self._descriptors[-1]
        os.ftruncate(descriptor, file.size)
        os.pwrite(descriptor, file.header, 0)
        offset = file.data_offset
        for tensor in file.tensors:
            self._places[tensor.name] = (descriptor, offset, tensor)
            self._missing.add(tensor.name)
            offset += tensor.size

    def write(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            descriptor, offset, planned = self._places[name]
            if DTYPES[tensor.dtype] != planned.dtype or tuple(tensor.shape) != planned.shape:
                raise Failed(
                    Reason.INTERNAL_ERROR,
                    f'"{name}" became {DTYPES[tensor.dtype]} {tuple(tensor.shape)}, '
                    f"not {planned.dtype} {planned.shape}",
                )
            flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            view = memoryview(flat.numpy().data)
            while len(view):
                count = os.pwrite(descriptor, view, offset)
                view, offset = view[count:], offset + count
            self._missing.discard(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        if kind is None and self._missing:
            raise Failed(
                Reason.INTERNAL_ERROR, f'{len(self._missing)} tensors were not written, "{min(self._missing)}" first'
            )


def _index(files: Sequence[OutputFile]) -> bytes:
    places = {tensor.name: file.name for file in files for tensor in file.tensors}
    total = sum(tensor.size for file in files for tensor in file.tensors)
    content = {"metadata": {"total_size": total}, "weight_map": places}
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()
