"""A base's weight files with the adapters added. Imports torch through `lora`; only the merge step may import this."""

from functools import lru_cache

from ftm_jobs import lora, stream
from ftm_jobs.checkpoint import ADAPTER_FILE
from ftm_jobs.contract import ManifestFile
from ftm_jobs.fit import Update
from ftm_jobs.headers import Header, Tensor
from ftm_jobs.inputs import Inputs
from ftm_jobs.layout import Block, cut
from ftm_jobs.progress import Progress
from ftm_jobs.stores import WritableStore

CACHED_WEIGHTS = 4
"""Whose A and B are kept: a weight larger than a block needs its own again for the next one."""

_Prepared = dict[str, tuple[lora.Factors, ...]]


class AdaptedWeights:
    """A and B are read when their weight is reached, so that memory does not grow with the adapters."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._updates: dict[str, list[tuple[int, Update]]] = {}
        for number, updates in enumerate(inputs.updates):
            for update in updates:
                self._updates.setdefault(update.weight, []).append((number, update))
        self._factors = lru_cache(CACHED_WEIGHTS)(self._read_factors)

    def write(self, header: Header, target: WritableStore, progress: Progress) -> ManifestFile:
        """The weight file of `header`; a file that no adapter changes is copied."""
        base = self._inputs.base
        stat = base.stats[header.file]
        changed = header.tensors.keys() & self._updates.keys()
        if not changed:
            return stream.copy(base.store, stat, target, progress)
        change = stream.Change(self._prepare, self._apply)
        return stream.rewrite(base.store, stat, target, cut(header, changed), change, progress)

    def _prepare(self, block: Block) -> _Prepared:
        return {piece.tensor.name: self._factors(piece.tensor.name) for piece in block.pieces}

    def _apply(self, block: Block, data: memoryview, prepared: _Prepared) -> None:
        for piece in block.pieces:
            size = piece.rows * (piece.tensor.size // piece.tensor.shape[0])
            rows = data[piece.offset : piece.offset + size]
            lora.add(piece.tensor, rows, piece.first_row, prepared[piece.tensor.name])

    def _read_factors(self, weight: str) -> tuple[lora.Factors, ...]:
        """In the adapters' order."""
        found = []
        for number, update in self._updates[weight]:
            adapter = self._inputs.adapters[number]
            scaling = adapter.config.scaling_of(update.module, adapter.scale)
            a, b = (self._read_tensor(number, tensor) for tensor in (update.a, update.b))
            found.append(lora.factors(update.a, a, update.b, b, scaling))
        return tuple(found)

    def _read_tensor(self, number: int, tensor: Tensor) -> bytearray:
        return self._inputs.adapters[number].store.read(ADAPTER_FILE, tensor.offset, tensor.size)
