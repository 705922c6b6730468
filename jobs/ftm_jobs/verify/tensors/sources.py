"""Reads a model's tensors one at a time: from a store's safetensors, shared by readers, or changed on the way.

Only the tensors that are asked for are read, by range requests, so neither memory nor disk ever holds a model. What
is read is not hashed: a damaged file shows as a damaged model.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch

from ftm_jobs.checkpoint.headers import Header, Tensor
from ftm_jobs.errors import InvalidInput, Reason
from ftm_jobs.stores import Store

READERS = 4
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


class TensorSource(Protocol):
    @property
    def names(self) -> frozenset[str]:
        """Returns names on disk."""

    def read(self, name: str) -> torch.Tensor:
        """Returns a tensor of any floating dtype, which must not be changed in place."""


class StoredTensors:
    """Reads the safetensors files of a folder in a store."""

    def __init__(self, store: Store, headers: Iterable[Header]) -> None:
        self._store = store
        self._where: dict[str, tuple[str, Tensor]] = {
            name: (header.file, tensor) for header in headers for name, tensor in header.tensors.items()
        }
        self.names = frozenset(self._where)

    def tensor(self, name: str) -> Tensor:
        return self._where[name][1]

    @property
    def bytes_by_name(self) -> Mapping[str, int]:
        return {name: tensor.size for name, (_, tensor) in self._where.items()}

    def read(self, name: str) -> torch.Tensor:
        file, tensor = self._where[name]
        if tensor.dtype not in DTYPES:
            raise InvalidInput(
                Reason.UNSUPPORTED_BASE,
                f'{self._store.describe(file)} tensor "{name}" is {tensor.dtype}, which cannot be computed with: '
                f"save it as one of {', '.join(DTYPES)}",
            )
        if not tensor.size:
            return torch.empty(tensor.shape, dtype=DTYPES[tensor.dtype])
        data = self._store.read(file, tensor.offset, tensor.size)
        return torch.frombuffer(data, dtype=DTYPES[tensor.dtype]).view(tensor.shape)


class SharedTensors:
    """Reads ahead the tensors that `expect` names, once for all readers, until `release` forgets them."""

    def __init__(self, source: StoredTensors) -> None:
        self._source = source
        self._pool = ThreadPoolExecutor(READERS)
        self._held: dict[str, Future[torch.Tensor]] = {}
        self.names = source.names

    def expect(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.names and name not in self._held:
                self._held[name] = self._pool.submit(self._source.read, name)

    def read(self, name: str) -> torch.Tensor:
        held = self._held.get(name)
        return held.result() if held else self._source.read(name)

    def release(self, names: Iterable[str]) -> None:
        for name in names:
            self._held.pop(name, None)

    def close(self) -> None:
        self._held.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)


class ChangedTensors:
    """Reads another source's tensors through a function of name and numbers."""

    def __init__(self, source: TensorSource, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
        self._source = source
        self._change = change
        self.names = source.names

    def read(self, name: str) -> torch.Tensor:
        return self._change(name, self._source.read(name))
