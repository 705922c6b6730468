"""A base's weight files with the adapters' changes. Imports torch; only merge and verify may import this."""

from functools import lru_cache

import torch

from ftm_jobs import lora, stream
from ftm_jobs.checkpoint import ADAPTER_FILE
from ftm_jobs.composed import ComposedFile
from ftm_jobs.contract import ManifestFile
from ftm_jobs.headers import Tensor
from ftm_jobs.inputs import Inputs
from ftm_jobs.kinds import AddBias, LowRank, Replace, ReplaceRows, RoundTrip
from ftm_jobs.layout import Block, Piece, cut
from ftm_jobs.output import Change, OutputFile, OutputTensor
from ftm_jobs.progress import Progress
from ftm_jobs.proof import Proof
from ftm_jobs.stores import WritableStore

CACHED_WEIGHTS = 4
"""Whose A and B are kept: a weight larger than a block needs its own again for the next one."""

_Prepared = tuple[tuple[lora.Prepared, ...], ...]


class AdaptedWeights:
    """What a change needs is read when its weight is reached, so that memory does not grow with the adapters."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        kept = CACHED_WEIGHTS * len(inputs.adapters)
        self._kept = lru_cache(kept)(self._read_change)
        self._factor = lru_cache(2 * kept)(self._read_fp32)

    def write(self, file: OutputFile, target: WritableStore, proof: Proof, progress: Progress) -> ManifestFile:
        """A weight file; a base's file that no adapter changes is copied."""
        base, change = self._inputs.base, stream.Change(self._prepare, self._apply)
        if file.base_file is None:
            composed = ComposedFile(base, file)
            blocks, witness = cut(file, composed.block_bytes), proof.witness(file, composed)
            return stream.rewrite(composed, composed.stat(file.name), target, blocks, change, progress, witness)
        stat = base.stats[file.base_file]
        if not file.changed:
            return stream.copy(base.store, stat, target, progress)
        return stream.rewrite(base.store, stat, target, cut(file, base.store.block_bytes), change, progress)

    def changes(self, tensor: OutputTensor) -> tuple[lora.Prepared, ...]:
        """What changes all rows of a tensor."""
        whole = Piece(tensor, 0, tensor.rows, 0)
        return tuple(self._read_rows(change, whole) or self._kept(change) for change in tensor.changes)

    def _prepare(self, block: Block) -> _Prepared:
        return tuple(
            tuple(self._read_rows(change, piece) or self._kept(change) for change in piece.tensor.changes)
            for piece in block.pieces
        )

    def _apply(self, block: Block, data: memoryview, prepared: _Prepared) -> None:
        for piece, changes in zip(block.pieces, prepared, strict=True):
            size = piece.rows * (piece.tensor.size // piece.tensor.rows)
            lora.change(piece.tensor, data[piece.offset : piece.offset + size], piece.first_row, changes)

    def _read_rows(self, change: Change, piece: Piece) -> lora.Prepared | None:
        """Only the rows that a piece needs of what replaces a whole weight; None for other changes."""
        if not isinstance(change, Replace):
            return None
        row_bytes = change.tensor.size // piece.tensor.rows
        store = self._inputs.adapters[change.adapter].store
        data = store.read(ADAPTER_FILE, change.tensor.offset + piece.first_row * row_bytes, piece.rows * row_bytes)
        return lora.Rows(lora.matrix(change.tensor, data, (piece.rows, piece.tensor.columns)), piece.first_row)

    def _read_change(self, change: Change) -> lora.Prepared:
        match change:
            case LowRank():
                return lora.Factors(
                    self._factor(change.adapter, change.a),
                    self._factor(change.adapter, change.b),
                    change.scaling,
                    change.form,
                    change.rounded,
                    self._factor(change.adapter, change.magnitude) if change.magnitude else None,
                    change.expert,
                )
            case AddBias():
                return lora.Bias(self._factor(change.adapter, change.tensor), change.scaling)
            case ReplaceRows():
                return lora.ChosenRows(self._factor(change.adapter, change.tensor), change.indices)
            case RoundTrip():
                return lora.QuantizedBase()
        raise AssertionError(change)

    def _read_fp32(self, adapter: int, tensor: Tensor) -> torch.Tensor:
        data = self._inputs.adapters[adapter].store.read(ADAPTER_FILE, tensor.offset, tensor.size)
        return lora.matrix(tensor, data).float()
